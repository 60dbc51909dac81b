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

// Tokens encodes segments one by one, as a server encodes the prompt apart from
// the answer, after the tokenizer's prefix (bos), unless the text begins with that
// already, as many models' own templates do. loss[i] says whether ids[i] is a token to
// learn.
func Tokens(enc Encoder, segments []Segment) (ids []int32, loss []bool) {
	prefix := enc.Prefix()
	next, continues := enc.(continuer)
	for i, s := range segments {
		var more []int32
		if i > 0 && continues {
			more = next.EncodeNext(segments[i-1].Text, s.Text)
		} else {
			more = enc.Encode(s.Text, false)
		}
		if i == 0 && (len(more) < len(prefix) || !slices.Equal(more[:len(prefix)], prefix)) {
			ids, loss = append(ids, prefix...), append(loss, make([]bool, len(prefix))...)
		}
		ids = append(ids, more...)
		for range more {
			loss = append(loss, s.Loss)
		}
	}
	if len(segments) == 0 {
		return prefix, make([]bool, len(prefix))
	}
	return ids, loss
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
