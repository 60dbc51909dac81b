package template

import (
	"errors"
	"fmt"
	"strings"
)

// Roles of a message.
const (
	RoleSystem    = "system"
	RoleUser      = "user"
	RoleAssistant = "assistant"
)

// Message is one turn of a conversation. Role is system, user or assistant.
type Message struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

// Segment is a piece of rendered text. Loss is set on what the model shall learn
// to write: the assistant's content and the end of its turn.
type Segment struct {
	Text string
	Loss bool
}

// Template is a chat template bound to a model's tokens: one of the builtin ones, or the
// model's own.
type Template struct {
	def builtin
	eos string
	own *own // nil: it is a builtin one
}

// builtin is what the templates have in common: each turn is a header, the content
// and an end. first, if set, stands before a conversation without a system message.
type builtin struct {
	name   string
	header func(role string) string
	// end closes a turn of role; {eos} in it is the model's end token.
	end func(role string) string
	// The part of an assistant's end that the model writes itself; what follows it
	// ("\n") is written by the template and not learned.
	learnedEnd string
	trim       bool // content is trimmed, as the model's own template does
	needsEOS   bool
	jinja      string
	ollama     string
}

var errNotWritten = errors.New("the template leaves a message out")

// Names lists the builtin templates: alpaca, chatml, llama, zephyr.
func Names() []string { return []string{"alpaca", "chatml", "llama", "zephyr"} }

// ByName gives a builtin template. eos is the model's end-of-sequence token
// ("</s>", "<|endoftext|>"); alpaca and zephyr end a turn with it, the others
// ignore it.
func ByName(name, eos string) (*Template, error) {
	for _, def := range builtins() {
		if def.name != name {
			continue
		}
		if def.needsEOS && eos == "" {
			return nil, fmt.Errorf("the template %s ends a turn with the model's eos token, and the model names none", name)
		}
		return &Template{def: def, eos: eos}, nil
	}
	return nil, fmt.Errorf("there is no template %q; there are %s", name, strings.Join(Names(), ", "))
}

// Name is the builtin's name, or OwnName.
func (t *Template) Name() string { return t.def.name }

// Render gives a whole conversation, to train on. The texts joined are what the
// Jinja template writes for the same messages; neighbours of equal Loss are joined.
func (t *Template) Render(messages []Message) ([]Segment, error) {
	if err := Check(messages); err != nil {
		return nil, fmt.Errorf("template %s: %w", t.def.name, err)
	}
	if t.own != nil {
		segments, err := t.own.render(messages)
		if err != nil {
			return nil, fmt.Errorf("template %s: %w", t.def.name, err)
		}
		return segments, nil
	}
	var out []Segment
	for _, m := range messages {
		content := t.content(m)
		end := t.fill(t.def.end(m.Role))
		if m.Role != RoleAssistant {
			out = appendText(out, t.def.header(m.Role)+content+end, false)
			continue
		}
		learned := t.fill(t.def.learnedEnd)
		out = appendText(out, t.def.header(m.Role), false)
		out = appendText(out, content+learned, true)
		out = appendText(out, strings.TrimPrefix(end, learned), false)
	}
	return out, nil
}

// Prompt gives a conversation up to the point where the assistant shall answer.
func (t *Template) Prompt(messages []Message) (string, error) {
	if t.own != nil {
		err := Check(messages)
		text := ""
		if err == nil {
			text, err = t.own.text(messages, true)
		}
		if err != nil {
			return "", fmt.Errorf("template %s: %w", t.def.name, err)
		}
		return text, nil
	}
	segments, err := t.Render(messages)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, s := range segments {
		b.WriteString(s.Text)
	}
	b.WriteString(t.def.header(RoleAssistant))
	return b.String(), nil
}

// Stop lists the strings at which generation ends. A template that writes nothing behind an
// answer has the model's end token only; see Ends.
func (t *Template) Stop() []string {
	end := t.fill(t.def.learnedEnd)
	if t.own != nil {
		end = t.own.end
	}
	if end = strings.TrimSpace(end); end == "" {
		end = t.eos
	}
	if end == "" {
		return nil
	}
	return []string{end}
}

// Ends says whether the template writes something behind each answer, by which a model can
// learn to end one.
func (t *Template) Ends() bool { return t.own == nil || strings.TrimSpace(t.own.end) != "" }

// Jinja is the same template as a Hugging Face chat_template.
func (t *Template) Jinja() string {
	if t.own != nil {
		return t.own.source
	}
	return t.def.jinja
}

// Ollama is the same template as the TEMPLATE of an Ollama Modelfile, or "" for a model's own
// template that cannot be put so; Ollama then takes the one in the GGUF file, if it knows it.
func (t *Template) Ollama() string {
	if t.own != nil {
		return t.own.ollama()
	}
	return t.fill(t.def.ollama)
}

func (t *Template) fill(s string) string { return strings.ReplaceAll(s, "{eos}", t.eos) }

func (t *Template) content(m Message) string {
	if t.def.trim {
		return strings.TrimSpace(m.Content)
	}
	return m.Content
}

// Check says whether messages are a conversation: known roles, at most one system
// message and that first, and something in it.
func Check(messages []Message) error {
	if len(messages) == 0 {
		return fmt.Errorf("a conversation needs at least one message")
	}
	for i, m := range messages {
		switch m.Role {
		case RoleUser, RoleAssistant:
		case RoleSystem:
			if i > 0 {
				return fmt.Errorf("message %d: a system message can only be the first", i)
			}
		default:
			return fmt.Errorf("message %d: role %q is not system, user or assistant", i, m.Role)
		}
	}
	return nil
}

func appendText(out []Segment, text string, loss bool) []Segment {
	if text == "" {
		return out
	}
	if n := len(out); n > 0 && out[n-1].Loss == loss {
		out[n-1].Text += text
		return out
	}
	return append(out, Segment{text, loss})
}
