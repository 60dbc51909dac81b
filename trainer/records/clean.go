package records

import (
	"encoding/json"
	"fmt"
	"hash/maphash"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/clean"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/pii"
)

// clean fills out from in.
func (s *Source) clean(in *raw, out *Record) error {
	out.Index, out.Row = in.index, in.row
	tidy := clean.Text
	classification := s.Config.Task == "classification"
	if classification {
		tidy = clean.Line
	}
	if s.Profile.Roles.Messages.Column != "" {
		if err := s.conversation(in, out); err != nil {
			return err
		}
	} else {
		out.Input = s.redact(tidy(in.input), out)
		out.Context = s.redact(tidy(in.context), out)
		out.Target = tidy(in.target)
		if !classification {
			out.Target = s.redact(out.Target, out)
		}
	}
	out.Untidy = untidy(in.input) || untidy(in.target)
	out.NoInput = clean.Missing(out.Input, classification) && (s.Profile.Roles.Input.Column != "" || s.Profile.Roles.Messages.Column != "")
	out.NoTarget = clean.Missing(out.Target, classification)

	var h maphash.Hash
	h.SetSeed(s.seed)
	for _, cell := range []string{in.input, in.context, in.messages} {
		h.WriteString(cell)
		h.WriteByte(0)
	}
	if !classification {
		h.WriteString(in.target)
	}
	out.Raw = h.Sum64()

	question := clean.Fold(out.Input)
	if out.Context != "" {
		question += "\x00" + clean.Fold(out.Context)
	}
	switch {
	case classification:
		out.Group = clean.Hash(question)
		out.Key = out.Group
	case question == "": // text alone: it is its own group
		out.Group = clean.Hash("", clean.Fold(out.Target))
		out.Key = out.Group
	default:
		out.Group = clean.Hash(question)
		out.Key = clean.Hash(question, clean.Fold(out.Target))
	}
	return nil
}

func (s *Source) redact(text string, out *Record) string {
	if text == "" {
		return ""
	}
	redacted := pii.Redact(text, &out.PII)
	if s.Config.Preprocessing.PII == "redact" {
		return redacted
	}
	return text
}

// untidy says whether white space or an invisible character stands where it should
// not. Line breaks are no fault.
func untidy(cell string) bool { return clean.Text(cell) != cell }

// conversation reads a list of messages, in OpenAI's spelling (role, content) or
// ShareGPT's (from, value). The last user message is the input, the last answer
// the target.
func (s *Source) conversation(in *raw, out *Record) error {
	bad := func(message string) error {
		return &contract.Error{
			Class: contract.ClassBadInput, Code: "BAD_MESSAGES", File: s.Profile.File, Row: in.row, Column: s.Profile.Roles.Messages.Column, Message: message,
			Hint: `a conversation is a list like [{"role":"user","content":"..."},{"role":"assistant","content":"..."}]`,
		}
	}
	if strings.TrimSpace(in.messages) == "" {
		return nil // a missing value
	}
	var list []struct {
		Role, Content, From, Value string
	}
	if err := json.Unmarshal([]byte(in.messages), &list); err != nil {
		return bad("the value is not a list of messages: " + err.Error())
	}
	for i, m := range list {
		role, content := m.Role, m.Content
		if role == "" {
			role, content = m.From, m.Value
		}
		switch strings.ToLower(role) {
		case "user", "human":
			role = "user"
		case "assistant", "gpt", "bot", "model":
			role = "assistant"
		case "system":
			role = "system"
			if i > 0 {
				return bad(fmt.Sprintf("message %d of %d is a system message; only the first may be", i+1, len(list)))
			}
		default:
			return bad(fmt.Sprintf("message %d of %d has the role %q; known are user, assistant and system", i+1, len(list), role))
		}
		content = s.redact(clean.Text(content), out)
		out.Messages = append(out.Messages, Message{role, content})
		if role == "user" {
			out.Input = content
		} else if role == "assistant" {
			out.Target = content
		}
	}
	if n := len(out.Messages); n > 0 && out.Messages[n-1].Role != "assistant" {
		return bad("the last message is not the assistant's: there is nothing to learn after it")
	}
	// What leads up to the last answer is a part of the question.
	for _, m := range out.Messages[:max(0, len(out.Messages)-2)] {
		out.Context += m.Role + ": " + m.Content + "\n"
	}
	return nil
}
