package template

import (
	"fmt"
	"slices"
	"strings"
)

// Encoder is what Tokens needs of a tokenizer; *tokenizer.Tokenizer is one.
type Encoder interface {
	Encode(text string, addSpecial bool) []int32
	Prefix() []int32
}

// continuer is an Encoder that tells a text's continuation from its beginning.
type continuer interface {
	EncodeNext(before, text string) []int32
}

// appender is an Encoder that writes into the caller's slice.
type appender interface {
	AppendEncode(ids []int32, text string, addSpecial bool) []int32
	AppendNext(ids []int32, before, text string) []int32
}

// Tokens encodes segments one by one, as a server encodes the prompt apart from
// the answer, after the tokenizer's prefix (bos), unless the text begins with that
// already, as many models' own templates do. loss[i] says whether ids[i] is a token to
// learn.
func Tokens(enc Encoder, segments []Segment) (ids []int32, loss []bool) {
	return AppendTokens(nil, nil, enc, segments)
}

// AppendTokens is Tokens into slices that the caller has, which are equally long.
func AppendTokens(ids []int32, loss []bool, enc Encoder, segments []Segment) ([]int32, []bool) {
	begin, prefix := len(ids), enc.Prefix()
	ids = append(ids, prefix...)
	for i, s := range segments {
		from := len(ids)
		ids = appendSegment(ids, enc, segments, i)
		if first := ids[from:]; i == 0 && len(first) >= len(prefix) && slices.Equal(first[:len(prefix)], prefix) {
			ids, from = slices.Delete(ids, begin, from), begin // the text has it
		}
		loss = marked(loss, from, false)
		loss = marked(loss, len(ids), s.Loss)
	}
	return ids, marked(loss, len(ids), false)
}

func marked(loss []bool, to int, is bool) []bool {
	for len(loss) < to {
		loss = append(loss, is)
	}
	return loss
}

func appendSegment(ids []int32, enc Encoder, segments []Segment, i int) []int32 {
	text := segments[i].Text
	if a, ok := enc.(appender); ok {
		if i == 0 {
			return a.AppendEncode(ids, text, false)
		}
		return a.AppendNext(ids, segments[i-1].Text, text)
	}
	if next, continues := enc.(continuer); i > 0 && continues {
		return append(ids, next.EncodeNext(segments[i-1].Text, text)...)
	}
	return append(ids, enc.Encode(text, false)...)
}

// Completion is the raw task without a chat: the prompt as it is, then the
// completion with its end token, which are learned.
func Completion(prompt, completion, eos string) []Segment {
	return appendText(appendText(nil, prompt, false), completion+eos, true)
}

// Classification asks for one of labels; with label "" only the question is made.
func Classification(text string, labels []string, label string) []Message {
	instruction := fmt.Sprintf("Classify the text. Answer with one of these labels and nothing else: %s.", strings.Join(labels, ", "))
	return task(instruction, "Text: "+text, label)
}

// Summarization asks for a summary of text.
func Summarization(text, summary string) []Message {
	return task("Summarize the text.", "Text: "+text, summary)
}

// QA asks a question about a context, which may be "".
func QA(context, question, answer string) []Message {
	if context == "" {
		return task("Answer the question.", "Question: "+question, answer)
	}
	return task("Answer the question from the context.", "Context: "+context+"\n\nQuestion: "+question, answer)
}

// Extraction asks for the named fields of text as JSON.
func Extraction(text string, fields []string, answer string) []Message {
	instruction := "Extract the information from the text. Answer with JSON and nothing else."
	if len(fields) > 0 {
		instruction = fmt.Sprintf("Extract these fields from the text: %s. Answer with JSON and nothing else.", strings.Join(fields, ", "))
	}
	return task(instruction, "Text: "+text, answer)
}

// task puts the instruction into the user's turn: small models follow it there
// better than in a system message, and every template has a user's turn.
func task(instruction, input, answer string) []Message {
	out := []Message{{RoleUser, instruction + "\n\n" + input}}
	if answer != "" {
		out = append(out, Message{RoleAssistant, answer})
	}
	return out
}
