package template

import (
	"strings"
	gotemplate "text/template"
)

// ollama puts the model's own template into the language of an Ollama Modelfile, by the
// texts that it writes between the messages, and checks that it writes the same. "" if
// it does not: a template that does more than put texts between messages. Ollama puts the
// token that begins a text itself.
func (o *own) ollama() string {
	s, u, a, v := Message{RoleSystem, probeSystem}, Message{RoleUser, probeUser}, Message{RoleAssistant, probeAnswer}, Message{RoleUser, "zqLASTqz"}
	first, err1 := o.between([]Message{u})
	plain, err2 := o.between([]Message{u, a, v})
	if err1 != nil || err2 != nil {
		return ""
	}
	text := "{{ range $i, $m := .Messages }}"
	other := ""
	if withSystem, err := o.between([]Message{s, u}); err == nil {
		text += `{{ if eq $m.Role "system" }}` + escapeGo(withSystem[0]) + "{{ $m.Content }}" + escapeGo(withSystem[1]) + "{{ else "
		other = `{{ else if eq (index $.Messages 0).Role "system" }}{{ if gt $i 1 }}` + escapeGo(plain[2]) + "{{ end }}"
	} else {
		text += "{{ "
	}
	text += `if eq $m.Role "user" }}{{ if eq $i 0 }}` + escapeGo(first[0]) + other + "{{ else }}" + escapeGo(plain[2]) + "{{ end }}" +
		"{{ $m.Content }}" + escapeGo(first[1]) + "{{ else }}{{ $m.Content }}{{ end }}{{ end }}"
	parsed, err := gotemplate.New("").Parse(text)
	if err != nil {
		return ""
	}
	for _, messages := range [][]Message{{u}, {s, u}, {u, a, v}, {s, u, a, v}, {u, a, v, a, u}, {s, u, a, v, a, u}} {
		want, err := o.text(messages, true)
		if err != nil {
			continue // refused by the template
		}
		var b strings.Builder
		if parsed.Execute(&b, map[string]any{"Messages": messages}) != nil || b.String() != o.withoutBOS(want) {
			return ""
		}
	}
	return text
}

// between gives the texts before, between and behind the contents of a prompt's messages.
func (o *own) between(messages []Message) ([]string, error) {
	rest, err := o.text(messages, true)
	if err != nil {
		return nil, err
	}
	rest = o.withoutBOS(rest)
	var out []string
	for _, m := range messages {
		before, after, ok := strings.Cut(rest, m.Content)
		if !ok {
			return nil, errNotWritten
		}
		out, rest = append(out, before), after
	}
	return append(out, rest), nil
}

func (o *own) withoutBOS(text string) string {
	bos, _ := o.tokens["bos_token"].(string)
	return strings.TrimPrefix(text, bos)
}

// escapeGo keeps a text from being read as an action.
func escapeGo(s string) string { return strings.ReplaceAll(s, "{{", `{{ "{{" }}`) }
