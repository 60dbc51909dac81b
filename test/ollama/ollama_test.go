package ollama_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/tunemesh/tunemesh/test/ollama"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/export"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/tuned/tunedtest"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// shown is /api/show.
type shown struct {
	Template, System, Parameters string
	Details                      struct {
		Family       string
		Quantization string `json:"quantization_level"`
	}
	Info map[string]any `json:"model_info"`
}

// answered is /api/chat and /api/generate.
type answered struct {
	Response     string
	Message      struct{ Content string }
	PromptTokens int `json:"prompt_eval_count"`
	Debug        struct {
		Rendered string `json:"rendered_template"`
	} `json:"_debug_info"`
}

var options = map[string]any{"temperature": 0, "seed": 1, "num_predict": 12}

func exported(t *testing.T, config string) (contract.Input, *template.Template) {
	t.Helper()
	in := tunedtest.Job(t, tunedtest.Tickets(60), config, weights.F32)
	tunedtest.AddAdapter(t, &in, 0.3, nil)
	in.Stage, in.OutputDir = "export", t.TempDir()
	if _, _, err := stagetest.Run(context.Background(), t, export.Run, in); err != nil {
		t.Fatal(err)
	}
	tmpl, err := template.ForModel(filepath.Join(in.OutputDir, export.MergedFolder))
	if err != nil {
		t.Fatal(err)
	}
	return in, tmpl
}

// greedy is the beginning of our own engine's answer to a prompt, as far as nobody can
// see it otherwise: up to a token that is hardly more likely than the next, which
// rounding may swap, or that is no whole text. tokens says how many it is.
func greedy(t *testing.T, in contract.Input, prompt string, stop []string) (text string, tokens int) {
	t.Helper()
	files, err := tuned.Find(in)
	if err != nil {
		t.Fatal(err)
	}
	m, err := files.OpenTuned()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	tok, _, err := tuned.Tokenizer(files.Base)
	if err != nil {
		t.Fatal(err)
	}
	s := m.NewSession()
	next := tok.Encode(prompt, false)
	var out []int32
	for range options["num_predict"].(int) {
		logits, err := s.Append(next)
		if err != nil {
			t.Fatal(err)
		}
		best, second := 0, -1
		for i, v := range logits {
			switch {
			case v > logits[best]:
				best, second = i, best
			case i != best && (second < 0 || v > logits[second]):
				second = i
			}
		}
		piece := tok.Decode([]int32{int32(best)}, false)
		if logits[best]-logits[second] < 0.1 || !utf8.ValidString(piece) || strings.ContainsRune(piece, utf8.RuneError) || slices.Contains(stop, piece) {
			break
		}
		out = append(out, int32(best))
		next = out[len(out)-1:]
	}
	return tok.Decode(out, false), len(out)
}

// Every GGUF file with our Modelfile, and the adapter over its base model, can be
// created, renders the prompts that were trained on, and answers as our engine does.
func TestOllamaTakesWhatWeExport(t *testing.T) {
	s := ollama.Start(t)
	in, tmpl := exported(t, `{"model":"tiny","task":"classification"}`)
	modelfile, err := os.ReadFile(filepath.Join(in.OutputDir, export.ModelfileName))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(modelfile), "\nTEMPLATE")
	if !ok || !strings.Contains(string(modelfile), "\nFROM ./job_") {
		t.Fatalf("Modelfile:\n%s", modelfile)
	}
	files, err := tuned.Find(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := gguf.Export(context.Background(), files.Base, filepath.Join(in.OutputDir, "base.gguf"), gguf.Options{Type: "F32"}); err != nil {
		t.Fatal(err)
	}
	write := func(name, text string) string {
		path := filepath.Join(in.OutputDir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	models := map[string]string{
		"ours": filepath.Join(in.OutputDir, export.ModelfileName), "adapter": filepath.Join(in.OutputDir, export.AdapterModelfileName),
	}
	for _, kind := range []string{"F16", "Q8_0", "Q4_K_M"} {
		models[strings.ToLower(kind)] = write("Modelfile."+kind, "FROM ./job_"+kind+".gguf\nTEMPLATE"+rest)
	}
	for name, path := range models {
		t.Run(name, func(t *testing.T) {
			s.Create(t, name, path)
			var show shown
			s.Call(t, "/api/show", map[string]any{"model": name}, &show)
			if show.Template != tmpl.Ollama() || !strings.Contains(show.Parameters, `"<|im_end|>"`) || !strings.Contains(show.Parameters, "num_ctx") || show.Details.Family != "llama" {
				t.Errorf("shown: %+v", show)
			}
			exact := name == "f16" || name == "ours" || name == "adapter"
			compared := 0
			for _, conversation := range [][]template.Message{
				{{Role: "user", Content: "ticket 7 about the box and the invoice"}},
				{{Role: "user", Content: "ticket 12 about the courier"}}, {{Role: "user", Content: "code"}}, {{Role: "user", Content: "a day 9"}},
				{{Role: "system", Content: "Answer in one word."}, {Role: "user", Content: "Größe\n\n  xl?"}},
				{{Role: "user", Content: "a"}, {Role: "assistant", Content: "billing"}, {Role: "user", Content: "password of a day 3"}},
			} {
				compared += compareChat(t, s, in, name, conversation, tmpl, exact)
			}
			if exact && compared < 4 {
				t.Errorf("only %d tokens could be compared", compared)
			}
			t.Logf("%d tokens compared with our engine's", compared)
		})
	}
}

func compareChat(t *testing.T, s *ollama.Server, in contract.Input, name string, conversation []template.Message, tmpl *template.Template, exact bool) int {
	t.Helper()
	prompt, err := tmpl.Prompt(conversation)
	if err != nil {
		t.Fatal(err)
	}
	var rendered, chat, raw answered
	s.Call(t, "/api/chat", map[string]any{"model": name, "messages": conversation, "options": options, "_debug_render_only": true}, &rendered)
	if rendered.Debug.Rendered != prompt {
		t.Errorf("%s writes the prompt %q, the model was trained on %q", name, rendered.Debug.Rendered, prompt)
	}
	s.Call(t, "/api/chat", map[string]any{"model": name, "messages": conversation, "options": options}, &chat)
	s.Call(t, "/api/generate", map[string]any{"model": name, "prompt": prompt, "raw": true, "options": options}, &raw)
	if chat.Message.Content != raw.Response || chat.PromptTokens != raw.PromptTokens {
		t.Errorf("%s answers the conversation %q (%d tokens), our prompt %q (%d tokens)", name, chat.Message.Content, chat.PromptTokens, raw.Response, raw.PromptTokens)
	}
	// A quantized model may choose another word where two are nearly as likely.
	want, n := greedy(t, in, prompt, tmpl.Stop())
	if !exact {
		return 0
	}
	if !strings.HasPrefix(strings.TrimSpace(chat.Message.Content), strings.TrimSpace(want)) {
		t.Errorf("%s answers %q, our engine %q", name, chat.Message.Content, want)
	}
	return n
}
