package template_test

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	gotemplate "text/template"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/template"
)

// model makes a folder that has a template of its own.
func model(t testing.TB, source string) string {
	t.Helper()
	dir := t.TempDir()
	config, err := json.Marshal(map[string]any{"bos_token": "<s>", "eos_token": map[string]any{"content": "</s>"}, "chat_template": source})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "tokenizer_config.json"), config, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

func own(t testing.TB, name string) (*template.Template, error) {
	t.Helper()
	source, err := os.ReadFile(filepath.Join("testdata/jinja", name+".jinja"))
	if err != nil {
		t.Fatal(err)
	}
	return template.ForModel(model(t, string(source)))
}

// What a model's own template learns of two answers, and by what it ends one.
var learned = map[string]struct {
	first, last, stop string
	system            bool // takes a system message
}{
	"gemma":            {"one<end_of_turn>", "two<end_of_turn>", "<end_of_turn>", false},
	"gemma3":           {"one<end_of_turn>", "two<end_of_turn>", "<end_of_turn>", true},
	"llama3":           {"one<|eot_id|>", "two<|eot_id|>", "<|eot_id|>", true},
	"llama3_2":         {"one<|eot_id|>", "two<|eot_id|>", "<|eot_id|>", true},
	"ministral3":       {"one</s>", "two</s>", "</s>", true},
	"phi3_5":           {"one<|end|>", "two<|end|>", "<|end|>", true},
	"qwen2_5":          {"one<|im_end|>", "two<|im_end|>", "<|im_end|>", true},
	"qwen2_5_training": {"one<|im_end|>", "two<|im_end|>", "<|im_end|>", true},
	"qwen3":            {"one<|im_end|>", "<think>\n\n</think>\n\ntwo<|im_end|>", "<|im_end|>", true},
	"smollm2":          {"one<|im_end|>", "two<|im_end|>", "<|im_end|>", true},
	"tinyllama":        {"one</s>", "two</s>", "</s>", true},
}

func TestOwnTemplatesLearnTheAnswers(t *testing.T) {
	for name, want := range learned {
		t.Run(name, func(t *testing.T) {
			tmpl, err := own(t, name)
			if err != nil {
				t.Fatal(err)
			}
			if tmpl.Name() != template.OwnName || !tmpl.Ends() || !slices.Equal(tmpl.Stop(), []string{want.stop}) {
				t.Errorf("name %s, ends %v, stop %q, want %q", tmpl.Name(), tmpl.Ends(), tmpl.Stop(), want.stop)
			}
			messages := []template.Message{{Role: "user", Content: "first question"}, {Role: "assistant", Content: "one"}, {Role: "user", Content: "second one"}, {Role: "assistant", Content: "two"}}
			if want.system {
				messages = append([]template.Message{{Role: "system", Content: "be brief"}}, messages...)
			}
			segments, err := tmpl.Render(messages)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, s := range segments {
				if s.Loss {
					got = append(got, s.Text)
				}
			}
			if !slices.Equal(got, []string{want.first, want.last}) {
				t.Errorf("learned %q of %q", got, join(segments))
			}
			prompt, err := tmpl.Prompt(messages[:len(messages)-1])
			if err != nil || !strings.HasPrefix(join(segments), prompt) || !strings.HasSuffix(join(segments[:len(segments)-1]), want.last) && !strings.HasSuffix(join(segments), want.last) {
				t.Errorf("prompt %q, %v, whole %q", prompt, err, join(segments))
			}
			if !want.system {
				if _, err := tmpl.Render([]template.Message{{Role: "system", Content: "x"}, {Role: "user", Content: "y"}}); err == nil || !strings.Contains(err.Error(), "system message") {
					t.Errorf("a system message: %v", err)
				}
			}
		})
	}
}

// The pieces of any conversation joined are the rendering; what is learned of an answer
// holds it, and what stands before is what a server asks with.
func TestOwnTemplatesAskAsTheyAreTrained(t *testing.T) {
	made := map[string]*template.Template{}
	for name := range learned {
		tmpl, err := own(t, name)
		if err != nil {
			t.Fatal(err)
		}
		made[name] = tmpl
	}
	names := []string{}
	for name := range made {
		names = append(names, name)
	}
	slices.Sort(names)
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.SampledFrom(names).Draw(rt, "name")
		text := rapid.StringMatching(`[a-zé<|> \n{}%]{0,12}[a-z]`) // Ministral takes no empty answer
		var messages []template.Message
		for range rapid.IntRange(1, 3).Draw(rt, "turns") {
			messages = append(messages, template.Message{Role: "user", Content: text.Draw(rt, "user")}, template.Message{Role: "assistant", Content: text.Draw(rt, "assistant")})
		}
		segments, err := made[name].Render(messages)
		if err != nil {
			rt.Fatal(err)
		}
		prompt, err := made[name].Prompt(messages[:len(messages)-1])
		if err != nil {
			rt.Fatal(err)
		}
		if !strings.HasPrefix(join(segments), prompt) {
			rt.Fatalf("%s: %q does not begin with %q", name, join(segments), prompt)
		}
		turn := 0
		for _, s := range segments {
			if !s.Loss {
				continue
			}
			turn++
			answer := strings.TrimSpace(messages[2*turn-1].Content)
			if !strings.Contains(s.Text, answer) || !strings.HasSuffix(s.Text, learned[name].stop) {
				rt.Fatalf("%s: of the answer %q %q is learned", name, answer, s.Text)
			}
		}
		if turn != len(messages)/2 {
			rt.Fatalf("%s: %d of %d answers are learned: %v", name, turn, len(messages)/2, segments)
		}
	})
}

// A template with which training would teach another text than a server asks with is refused
// before training, with the place.
func TestTemplatesThatBreakThePrefixAreRefused(t *testing.T) {
	_, err := own(t, "deepseek_r1_distill") // its prompt opens a thought, its history has none
	var broken *template.PrefixError
	if !errors.As(err, &broken) || !strings.Contains(err.Error(), "<think>") || !strings.Contains(err.Error(), "builtin") {
		t.Errorf("%v", err)
	}
	for label, c := range map[string]struct{ source, want string }{
		"no answer":     {`{% for m in messages %}{% if m.role == 'user' %}{{ m.content }}{% endif %}{% endfor %}`, "an answer 0 times"},
		"answer twice":  {`{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}`, "2 times"},
		"cannot render": {`{{ raise_exception('no') }}`, "refuses the messages: no"},
		"cannot parse":  {`{% if %}`, "jinja"},
		"another shape": {`{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}`, "another text"},
	} {
		if _, err := template.ForModel(model(t, c.source)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", label, err, c.want)
		}
	}
	// GLM has no end of a turn: an answer ends where the next question begins.
	glm, err := own(t, "glm4moe")
	if err != nil {
		t.Fatal(err)
	}
	if glm.Ends() || !slices.Equal(glm.Stop(), []string{"</s>"}) {
		t.Errorf("ends %v, stop %q", glm.Ends(), glm.Stop())
	}
}

// In a template that writes an answer otherwise by what it says, the row is refused rather
// than learned in part.
func TestAnAnswerWithoutAnEndIsRefused(t *testing.T) {
	tmpl, err := template.ForModel(model(t, `{% for m in messages %}[{{ m.role }}]{{ m.content }}{% if m.content != 'odd' %}<end>{% endif %}{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}`))
	if err != nil {
		t.Fatal(err)
	}
	for answer, ok := range map[string]bool{"even": true, "odd": false} {
		_, err := tmpl.Render([]template.Message{{Role: "user", Content: "x"}, {Role: "assistant", Content: answer}})
		if (err == nil) != ok {
			t.Errorf("%s: %v", answer, err)
		}
	}
	if _, err := tmpl.Render([]template.Message{{Role: "assistant", Content: "x"}}); err == nil {
		t.Error("an answer to nothing was taken")
	}
}

// An own template is the Ollama template too, where it only puts texts between messages.
func TestOwnTemplatesForOllama(t *testing.T) {
	messages := []template.Message{{Role: "system", Content: "Be brief."}, {Role: "user", Content: "Hi"}, {Role: "assistant", Content: "Hello"}, {Role: "user", Content: "Bye {{ x }}"}}
	for name, can := range map[string]bool{"gemma3": true, "llama3": true, "llama3_2": true, "phi3_5": true, "qwen2_5": true, "qwen3": true, "smollm2": true, "tinyllama": true, "gemma": true, "ministral3": true, "glm4moe": false} {
		tmpl, err := own(t, name)
		if err != nil {
			t.Fatal(err)
		}
		text := tmpl.Ollama()
		if (text != "") != can {
			t.Errorf("%s: %q", name, text)
		}
		if text == "" {
			continue
		}
		parsed, err := gotemplate.New(name).Parse(text)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		talk := messages
		if name == "gemma" {
			talk = messages[1:]
		}
		var b strings.Builder
		if err := parsed.Execute(&b, map[string]any{"Messages": talk}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		want, err := tmpl.Prompt(talk)
		if err != nil {
			t.Fatal(err)
		}
		if b.String() != strings.TrimPrefix(want, "<s>") {
			t.Errorf("%s:\n got %q\nwant %q", name, b.String(), want)
		}
	}
}

func TestOpenByName(t *testing.T) {
	source := `{% for m in messages %}[{{ m.role }}]{{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}[assistant]{% endif %}`
	dir := model(t, source)
	for name, want := range map[string]string{"auto": "own", "": "own", "own": "own", "zephyr": "zephyr", "llama": "llama"} {
		tmpl, err := template.Open(dir, name)
		if err != nil || tmpl.Name() != want {
			t.Errorf("%q: %v, %v", name, tmpl, err)
		} else if want == "own" && tmpl.Jinja() != source {
			t.Errorf("the Jinja of %q is %q", name, tmpl.Jinja())
		}
	}
	if _, err := template.Open(t.TempDir(), "own"); err == nil {
		t.Error("a folder without a template has one of its own")
	}
	if _, err := template.Open(dir, "vicuna"); err == nil {
		t.Error("an unknown name was taken")
	}
}

// The token that begins a text stands there once, whether the template writes it or not.
func TestTheBeginningStandsOnce(t *testing.T) {
	for text, want := range map[string][]int32{"ab": {1, 'a', 'b'}, "\x01ab": {1, 'a', 'b'}} {
		ids, loss := template.Tokens(letters{}, []template.Segment{{Text: text}, {Text: "c", Loss: true}})
		if want = append(want, 'c'); !slices.Equal(ids, want) || len(loss) != len(ids) || !loss[3] || loss[2] {
			t.Errorf("%q: %v, %v", text, ids, loss)
		}
	}
}

// The templates of Ollama's library in both of its styles are known again.
func TestOllamaTemplatesAreKnownAgain(t *testing.T) {
	for text, want := range map[string]string{
		"{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}{{ if .Prompt }}<|im_start|>user\n{{ .Prompt }}<|im_end|>\n{{ end }}<|im_start|>assistant\n{{ .Response }}<|im_end|>\n":                                      "chatml",
		"{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n":                                                                                                                         "chatml",
		"{{ if .System }}<|start_header_id|>system<|end_header_id|>\n\n{{ .System }}<|eot_id|>{{ end }}<|start_header_id|>user<|end_header_id|>\n\n{{ .Prompt }}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n{{ .Response }}": "llama",
		"{{ if .System }}<|system|>\n{{ .System }}</s>\n{{ end }}<|user|>\n{{ .Prompt }}</s>\n<|assistant|>\n":                                                                                                                              "zephyr",
		"{{ .Prompt }}": "", "": "", "{{ nope": "", "{{ range 1000000000 }}{{ end }}": "", "{{ range .Messages }}{{ .Nope }}{{ end }}": "",
	} {
		if got := template.FromOllama(text, "</s>"); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
	for _, name := range template.Names() {
		if got := template.FromOllama(builtin(t, name).Ollama(), "</s>"); got != name {
			t.Errorf("%s: %q", name, got)
		}
	}
}
