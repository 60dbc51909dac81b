package jinja_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/trainer/template/jinja"
)

var day = time.Date(2024, 7, 26, 0, 0, 0, 0, time.UTC)

type render struct {
	Template string              `json:"template"`
	Messages []map[string]string `json:"messages"`
	Prompt   bool                `json:"prompt"`
	Text     string              `json:"text"`
	Error    string              `json:"error"`
}

func (r render) vars() map[string]any {
	var messages []any
	for _, m := range r.Messages {
		messages = append(messages, map[string]any{"role": m["role"], "content": m["content"]})
	}
	return map[string]any{
		"messages": messages, "add_generation_prompt": r.Prompt, "tools": nil, "documents": nil,
		"bos_token": "<s>", "eos_token": "</s>",
	}
}

// The models' own templates write what Hugging Face's apply_chat_template writes, byte for
// byte, and refuse what it refuses (testdata/jinja/renders.py made the file).
// TUNEMESH_VECTORS names a folder with more templates and their renders.json.
func TestRendersAreThoseOfHuggingFace(t *testing.T) {
	dir := "../testdata/jinja"
	if d := os.Getenv("TUNEMESH_VECTORS"); d != "" {
		dir = d
	}
	raw, err := os.ReadFile(filepath.Join(dir, "renders.json"))
	if err != nil {
		t.Fatal(err)
	}
	var cases []render
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	parsed := map[string]*jinja.Template{}
	good, refused := 0, 0
	for _, c := range cases {
		if _, ok := parsed[c.Template]; !ok {
			source, err := os.ReadFile(filepath.Join(dir, c.Template))
			if err != nil {
				t.Fatal(err)
			}
			if parsed[c.Template], err = jinja.Parse(string(source)); err != nil {
				t.Errorf("%s: %v", c.Template, err)
			}
		}
		tmpl := parsed[c.Template]
		if tmpl == nil {
			continue
		}
		got, err := tmpl.Render(c.vars(), day)
		if c.Error != "" {
			refused++
			var no *jinja.RefusedError
			if err == nil || strings.HasPrefix(c.Error, "TemplateError") != errors.As(err, &no) {
				t.Errorf("%s %v: got %q, %v; the original says %s", c.Template, c.Messages, got, err, c.Error)
			}
			continue
		}
		good++
		if err != nil || got != c.Text {
			t.Errorf("%s %v prompt %v: %v\n got %q\nwant %q", c.Template, c.Messages, c.Prompt, err, got, c.Text)
		}
	}
	if good < 200 || refused < 20 {
		t.Errorf("only %d renders and %d refusals", good, refused)
	}
}
