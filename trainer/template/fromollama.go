package template

import (
	"errors"
	"regexp"
	"strings"
	gotemplate "text/template"
)

// endless matches a loop over a number, which the language has since Go 1.22.
var endless = regexp.MustCompile(`range\s+[0-9]`)

const maxOllama = 64 << 10

// FromOllama names the builtin template that writes what an Ollama TEMPLATE writes for a
// short talk: what a model with it was meant to be asked with. "" if none does.
func FromOllama(text, eos string) string {
	if strings.TrimSpace(text) == "" || len(text) > maxOllama || endless.MatchString(text) {
		return ""
	}
	parsed, err := gotemplate.New("").Funcs(gotemplate.FuncMap{
		"json": func(any) string { return "" }, "currentDate": func(...any) string { return "" }, "yesterdayDate": func(...any) string { return "" },
		"toTypeScriptType": func(any) string { return "" },
	}).Parse(text)
	if err != nil {
		return ""
	}
	for _, def := range builtins() {
		t, err := ByName(def.name, eos)
		if err != nil {
			continue
		}
		same := true
		for _, messages := range [][]Message{{{RoleUser, probeUser}}, {{RoleSystem, probeSystem}, {RoleUser, probeUser}}} {
			want, err := t.Prompt(messages)
			got, ok := asOllama(parsed, messages)
			same = same && err == nil && ok && strings.TrimSpace(got) == strings.TrimSpace(want)
		}
		if same {
			return def.name
		}
	}
	return ""
}

// asOllama renders a prompt as Ollama does: to where the answer begins.
func asOllama(t *gotemplate.Template, messages []Message) (string, bool) {
	data := map[string]any{"Messages": messages, "System": "", "Prompt": "", "Response": probeAnswer, "First": true, "Suffix": "", "Tools": nil}
	for _, m := range messages {
		switch m.Role {
		case RoleSystem:
			data["System"] = m.Content
		case RoleUser:
			data["Prompt"] = m.Content
		}
	}
	b := bounded{left: maxOllama}
	if err := t.Execute(&b, data); err != nil {
		return "", false
	}
	before, _, _ := strings.Cut(b.String(), probeAnswer)
	return before, true
}

// bounded takes so many bytes.
type bounded struct {
	strings.Builder
	left int
}

func (b *bounded) Write(p []byte) (int, error) {
	if b.left -= len(p); b.left < 0 {
		return 0, errors.New("the template writes too much")
	}
	return b.Builder.Write(p)
}
