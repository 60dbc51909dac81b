package template_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	gotemplate "text/template"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
)

func builtin(t *testing.T, name string) *template.Template {
	t.Helper()
	tmpl, err := template.ByName(name, "</s>")
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

func join(segments []template.Segment) string {
	var b strings.Builder
	for _, s := range segments {
		b.WriteString(s.Text)
	}
	return b.String()
}

// The Go and the Jinja of a template write the same (testdata/golden.py made the
// file with Jinja).
func TestRenderIsTheJinja(t *testing.T) {
	raw, err := os.ReadFile("testdata/golden.json")
	if err != nil {
		t.Fatal(err)
	}
	var cases []struct {
		Template      string
		Messages      []template.Message
		Whole, Prompt string
	}
	if err := json.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	seen := map[string]int{}
	for _, c := range cases {
		seen[c.Template]++
		tmpl := builtin(t, c.Template)
		segments, err := tmpl.Render(c.Messages)
		if err != nil {
			t.Fatal(err)
		}
		if got := join(segments); got != c.Whole {
			t.Errorf("%s %v\n got %q\nwant %q", c.Template, c.Messages, got, c.Whole)
		}
		prompt, err := tmpl.Prompt(c.Messages)
		if err != nil || prompt != c.Prompt {
			t.Errorf("%s %v: prompt, %v\n got %q\nwant %q", c.Template, c.Messages, err, prompt, c.Prompt)
		}
	}
	for _, name := range template.Names() {
		if seen[name] < 5 {
			t.Errorf("%s: only %d renderings in the golden file", name, seen[name])
		}
	}
}

// Ollama's TEMPLATE is a text/template over .Messages; it writes the prompt.
func TestOllamaIsThePrompt(t *testing.T) {
	messages := []template.Message{{Role: "system", Content: "Be brief."}, {Role: "user", Content: "Hi"}, {Role: "assistant", Content: "Hello"}, {Role: "user", Content: "Bye {{ x }}"}}
	for _, name := range template.Names() {
		tmpl := builtin(t, name)
		parsed, err := gotemplate.New(name).Parse(tmpl.Ollama())
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var b strings.Builder
		if err := parsed.Execute(&b, map[string]any{"Messages": messages}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want, err := tmpl.Prompt(messages)
		if err != nil {
			t.Fatal(err)
		}
		if b.String() != want {
			t.Errorf("%s:\n got %q\nwant %q", name, b.String(), want)
		}
	}
}

// What carries loss is the assistant's content and the end of its turn, and nothing
// else; a model that learned the prompt of its next turn would run on.
func TestLossIsOnTheAnswer(t *testing.T) {
	messages := []template.Message{{Role: "user", Content: "question"}, {Role: "assistant", Content: "answer"}, {Role: "user", Content: "again"}, {Role: "assistant", Content: "more"}}
	ends := map[string]string{"alpaca": "</s>", "chatml": "<|im_end|>", "llama": "<|eot_id|>", "zephyr": "</s>"}
	for _, name := range template.Names() {
		tmpl := builtin(t, name)
		segments, err := tmpl.Render(messages)
		if err != nil {
			t.Fatal(err)
		}
		var learned []string
		for _, s := range segments {
			if s.Loss {
				learned = append(learned, s.Text)
			}
		}
		if want := []string{"answer" + ends[name], "more" + ends[name]}; !slices.Equal(learned, want) {
			t.Errorf("%s: learned %q, want %q", name, learned, want)
		}
		if got := tmpl.Stop(); !slices.Equal(got, []string{ends[name]}) {
			t.Errorf("%s: Stop %q", name, got)
		}
	}
}

// The rendering of a conversation begins with the prompt of its beginning: what is
// trained is a continuation of what is served.
func TestPromptIsAPrefixOfTheWhole(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.SampledFrom(template.Names()).Draw(rt, "name")
		text := rapid.StringMatching(`[a-z{}<|> \n]{0,20}`)
		messages := []template.Message{}
		for range rapid.IntRange(1, 4).Draw(rt, "turns") {
			messages = append(messages, template.Message{Role: "user", Content: text.Draw(rt, "user")}, template.Message{Role: "assistant", Content: text.Draw(rt, "assistant")})
		}
		tmpl, err := template.ByName(name, "</s>")
		if err != nil {
			rt.Fatal(err)
		}
		whole, err := tmpl.Render(messages)
		if err != nil {
			rt.Fatal(err)
		}
		prompt, err := tmpl.Prompt(messages[:len(messages)-1])
		if err != nil {
			rt.Fatal(err)
		}
		if !strings.HasPrefix(join(whole), prompt) {
			rt.Fatalf("%s: %q does not begin with %q", name, join(whole), prompt)
		}
	})
}

func TestBadConversationsAreRefused(t *testing.T) {
	for want, messages := range map[string][]template.Message{
		"at least one":   nil,
		"not system":     {{Role: "tool", Content: "x"}},
		"can only be":    {{Role: "user", Content: "x"}, {Role: "system", Content: "y"}},
		`role "" is not`: {{Content: "x"}},
	} {
		if _, err := builtin(t, "chatml").Render(messages); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", messages, err, want)
		}
	}
	if _, err := template.ByName("zephyr", ""); err == nil {
		t.Error("zephyr without an eos token was accepted")
	}
	if _, err := template.ByName("vicuna", "</s>"); err == nil || !strings.Contains(err.Error(), "chatml") {
		t.Errorf("unknown name: %v, want the names there are", err)
	}
}

func TestForModel(t *testing.T) {
	zephyr, err := json.Marshal(builtin(t, "zephyr").Jinja())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ label, config, file, want, fails string }{
		{label: "no config", want: "chatml"},
		{label: "no template", config: `{"eos_token":"</s>"}`, want: "chatml"},
		{label: "a builtin", config: `{"eos_token":"</s>","chat_template":` + string(zephyr) + `}`, want: "zephyr"},
		{label: "eos as an object", config: `{"eos_token":{"content":"</s>"},"chat_template":` + string(zephyr) + `}`, want: "zephyr"},
		{label: "named templates", config: `{"eos_token":"</s>","chat_template":[{"name":"default","template":` + string(zephyr) + `}]}`, want: "zephyr"},
		{label: "a file", config: `{"eos_token":"</s>","chat_template":"other"}`, file: builtin(t, "llama").Jinja(), want: "llama"},
		{label: "another", config: `{"chat_template":"{{ messages }}"}`, fails: "alpaca, chatml, llama, zephyr"},
		{label: "builtin without eos", config: `{"chat_template":` + string(zephyr) + `}`, fails: "eos"},
		{label: "not JSON", config: `{`, fails: "tokenizer_config.json"},
		{label: "neither text nor list", config: `{"chat_template":7}`, fails: "neither"},
	} {
		t.Run(c.label, func(t *testing.T) {
			dir := t.TempDir()
			for name, text := range map[string]string{"tokenizer_config.json": c.config, "chat_template.jinja": c.file} {
				if text != "" {
					if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
						t.Fatal(err)
					}
				}
			}
			tmpl, err := template.ForModel(dir)
			if c.fails != "" {
				if err == nil || !strings.Contains(err.Error(), c.fails) {
					t.Fatalf("error %v, want %q", err, c.fails)
				}
				return
			}
			if err != nil || tmpl.Name() != c.want {
				t.Fatalf("got %v, %v; want %s", tmpl, err, c.want)
			}
		})
	}
}

// letters stands in for a tokenizer: one id a byte.
type letters struct{}

func (letters) Prefix() []int32 { return []int32{1} }
func (letters) Encode(text string, _ bool) []int32 {
	var ids []int32
	for i := range len(text) {
		ids = append(ids, int32(text[i]))
	}
	return ids
}

func TestTokens(t *testing.T) {
	ids, loss := template.Tokens(letters{}, template.Completion("ab", "c", "."))
	if !slices.Equal(ids, []int32{1, 'a', 'b', 'c', '.'}) || !slices.Equal(loss, []bool{false, false, false, true, true}) {
		t.Errorf("ids %v, loss %v", ids, loss)
	}
}

// With a tokenizer of the SentencePiece kind, which puts a space before every text,
// the ids of the pieces are those of the whole.
func TestTokensOfPiecesAreThoseOfTheWhole(t *testing.T) {
	messages := []template.Message{{Role: "user", Content: "Hello there"}, {Role: "assistant", Content: "the mesh"}, {Role: "user", Content: "node"}, {Role: "assistant", Content: "  x"}}
	for _, kind := range []string{"llama2", "mistral"} {
		tok, err := tokenizer.Load("../tokenizer/testdata/" + kind + ".tokenizer.json")
		if err != nil {
			t.Fatal(err)
		}
		segments, err := builtin(t, "zephyr").Render(messages)
		if err != nil {
			t.Fatal(err)
		}
		ids, loss := template.Tokens(tok, segments)
		want := append(tok.Prefix(), tok.Encode(join(segments), false)...)
		if !slices.Equal(ids, want) || len(loss) != len(ids) {
			t.Errorf("%s:\n got %v\nwant %v", kind, ids, want)
		}
	}
}

func TestTasks(t *testing.T) {
	for _, c := range []struct {
		label    string
		messages []template.Message
		holds    []string
	}{
		{"classification", template.Classification("I love it", []string{"good", "bad"}, "good"), []string{"good, bad", "I love it"}},
		{"summarization", template.Summarization("long", "short"), []string{"long"}},
		{"qa", template.QA("ctx", "why?", "because"), []string{"ctx", "why?"}},
		{"qa without context", template.QA("", "why?", "because"), []string{"why?"}},
		{"extraction", template.Extraction("Bob, 7", []string{"name", "age"}, `{"name":"Bob"}`), []string{"name, age", "Bob, 7"}},
	} {
		if len(c.messages) != 2 || c.messages[0].Role != "user" || c.messages[1].Role != "assistant" {
			t.Errorf("%s: %v", c.label, c.messages)
			continue
		}
		for _, part := range c.holds {
			if !strings.Contains(c.messages[0].Content, part) {
				t.Errorf("%s: %q lacks %q", c.label, c.messages[0].Content, part)
			}
		}
	}
	if got := template.Classification("x", []string{"a"}, ""); len(got) != 1 {
		t.Errorf("without a label: %v, want the question only", got)
	}
}
