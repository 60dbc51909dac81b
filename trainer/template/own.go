package template

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"

	"github.com/tunemesh/tunemesh/trainer/template/jinja"
)

// OwnName is the Name of a template that is none of the builtin ones: the model's own.
const OwnName = "own"

// fixedDay is what strftime_now tells a template: the day on which Llama 3.1's template falls
// back. The true day would give other tokens tomorrow, in the middle of a job.
var fixedDay = time.Date(2024, time.July, 26, 0, 0, 0, 0, time.UTC)

// own is a model's own chat template.
type own struct {
	source string
	parsed *jinja.Template
	tokens map[string]any // bos_token and the like, by name
	tail   string         // what follows the last answer of a conversation
	end    string         // what of it ends every answer, and is learned
}

// The contents with which a template is looked into. No template's text holds them.
const (
	probeSystem = "zqSYSTEMqz"
	probeUser   = "zqUSERqz"
	probeAnswer = "zqANSWERqz"
)

// newOwn parses a template and makes sure that it can be trained with: that the prompt which a
// server renders is the beginning of the conversation with its answer, and that the answer
// stands in it once, as it is.
func newOwn(source string, tokens map[string]any) (*own, error) {
	parsed, err := jinja.Parse(source)
	if err != nil {
		return nil, err
	}
	o := &own{source: source, parsed: parsed, tokens: tokens}
	user, answer := Message{RoleUser, probeUser}, Message{RoleAssistant, probeAnswer}
	whole, err := o.text([]Message{user, answer}, false)
	if err != nil {
		return nil, err
	}
	prompt, err := o.text([]Message{user}, true)
	if err != nil {
		return nil, err
	}
	if strings.Count(whole, probeAnswer) != 1 || strings.Count(whole, probeUser) != 1 {
		return nil, fmt.Errorf("it writes a question %d times and an answer %d times, not once", strings.Count(whole, probeUser), strings.Count(whole, probeAnswer))
	}
	if !strings.HasPrefix(whole, prompt) {
		return nil, &PrefixError{Prompt: prompt, Whole: whole}
	}
	_, o.tail, _ = strings.Cut(whole, probeAnswer)
	o.end = strings.TrimRightFunc(o.tail, unicode.IsSpace)
	// What a template adds at the very end of a conversation (Phi-3.5: another token) is no
	// part of an answer: what ends one stands there with another turn behind it too.
	if longer, err := o.text([]Message{user, answer, {RoleUser, probeSystem}}, false); err == nil {
		if _, after, ok := strings.Cut(longer, probeAnswer); ok {
			o.end = strings.TrimRightFunc(wholeMarks(commonPrefix(o.tail, after)), unicode.IsSpace)
		}
	}
	return o, nil
}

// PrefixError says that a template writes the beginning of a conversation otherwise once
// the answer is there: what would be trained is not what a server asks for.
type PrefixError struct {
	Prompt, Whole string
	Turn          int // index of the answer's message; 0 of a template that always does it
}

func (e *PrefixError) Error() string {
	n := len(commonPrefix(e.Prompt, e.Whole))
	return fmt.Sprintf("the prompt ends with %q, where the conversation with its answer goes on with %q: the model would be trained on another text than it is asked with",
		clip(e.Prompt[n:]), clip(e.Whole[n:]))
}

func clip(s string) string {
	if len(s) > 60 {
		s = strings.ToValidUTF8(s[:60], "") + "..."
	}
	return s
}

func commonPrefix(a, b string) string {
	n := 0
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return strings.ToValidUTF8(a[:n], "")
}

// wholeMarks cuts off a mark such as <|end|> or [INST] of which only the beginning is there.
func wholeMarks(s string) string {
	for _, pair := range []string{"<>", "[]"} {
		if at := strings.LastIndexByte(s, pair[0]); at > strings.LastIndexByte(s, pair[1]) {
			s = s[:at]
		}
	}
	return s
}

// text is what Hugging Face's apply_chat_template writes.
func (o *own) text(messages []Message, prompt bool) (string, error) {
	list := make([]any, len(messages))
	for i, m := range messages {
		list[i] = map[string]any{"role": m.Role, "content": m.Content}
	}
	vars := map[string]any{"messages": list, "add_generation_prompt": prompt, "tools": nil, "documents": nil}
	for name, token := range o.tokens {
		vars[name] = token
	}
	text, err := o.parsed.Render(vars, fixedDay)
	var no *jinja.RefusedError
	if errors.As(err, &no) && messages[0].Role == RoleSystem {
		return "", fmt.Errorf("%w (a template that takes no system message says so like this: leave it out, or put it into the first question)", err)
	}
	return text, err
}

// render cuts a conversation into what is learned and what is not. An answer is learned from
// where the prompt ends to the end of the turn.
func (o *own) render(messages []Message) ([]Segment, error) {
	whole, err := o.text(messages, false)
	if err != nil {
		return nil, err
	}
	var out []Segment
	done := 0
	for i, m := range messages {
		if m.Role != RoleAssistant {
			continue
		}
		prompt := ""
		if i > 0 {
			if prompt, err = o.text(messages[:i], true); err != nil {
				return nil, fmt.Errorf("message %d: the prompt before it: %w", i, err)
			}
		}
		end, err := o.endOf(messages, i, whole)
		if err != nil {
			return nil, fmt.Errorf("message %d: %w", i, err)
		}
		if !strings.HasPrefix(whole, prompt) || len(prompt) < done || len(prompt) > end || i == 0 {
			return nil, fmt.Errorf("message %d: %w", i, &PrefixError{Prompt: prompt, Whole: whole, Turn: i})
		}
		out = appendText(out, whole[done:len(prompt)], false)
		out = appendText(out, whole[len(prompt):end], true)
		done = end
	}
	return appendText(out, whole[done:], false), nil
}

// endOf finds where in whole the turn of answer i ends.
func (o *own) endOf(messages []Message, i int, whole string) (int, error) {
	after := o.tail
	if i < len(messages)-1 || !strings.HasSuffix(whole, o.tail) {
		probed := append([]Message(nil), messages...)
		probed[i].Content = probeAnswer
		text, err := o.text(probed, false)
		if err != nil {
			return 0, err
		}
		at := strings.Index(text, probeAnswer)
		if at < 0 || strings.Count(text, probeAnswer) != 1 {
			return 0, fmt.Errorf("the template leaves this answer out or writes it several times")
		}
		after = text[at+len(probeAnswer):]
	}
	at := len(whole) - len(after)
	if at < 0 || !strings.HasSuffix(whole, after) || !strings.HasPrefix(whole[at:], o.end) {
		return 0, fmt.Errorf("the template writes what follows this answer otherwise for other answers, so that its end cannot be found")
	}
	return at + len(o.end), nil
}
