package export_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/evaluation"
	"github.com/tunemesh/tunemesh/trainer/export"
	"github.com/tunemesh/tunemesh/trainer/preprocessing"
	"github.com/tunemesh/tunemesh/trainer/training"
	"github.com/tunemesh/tunemesh/trainer/tuned/tunedtest"
	"github.com/tunemesh/tunemesh/trainer/validation"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// Every task, with each of the builtin templates among them, goes from an uploaded file
// through all six stages to files that the stages themselves have checked: the samples, an
// adapter that lowers the loss on rows it has not seen, the metrics of that task, the merged
// model, GGUF and a Modelfile.
func TestEveryTaskGoesTheWholeWay(t *testing.T) {
	for _, c := range []struct{ task, template, row, metric string }{
		{"classification", "chatml", `{"text":"lamp %d is %s and does not turn on","label":"%s"}`, "tuned_macro_f1"},
		{"chat", "llama", `{"messages":[{"role":"user","content":"How is lamp %d, the %s one?"},{"role":"assistant","content":"It is %s."}]}`, "tuned_rouge_l"},
		{"summarization", "alpaca", `{"article":"A long text on lamp %d, how it came to be %s, and what became of it.","summary":"The lamp is %s."}`, "tuned_rouge_l"},
		{"qa", "zephyr", `{"context":"Lamp %d is %s.","question":"What is the lamp like, please?","answer":"It is %s."}`, "tuned_exact_match"},
		{"extraction", "chatml", `{"text":"Please send lamp %d, which is %s, to the house.","output":{"colour":"%s"}}`, "tuned_exact_match"},
		{"completion", "auto", `{"prompt":"Once there was lamp %d, and it was %s,","completion":"so that they called it the %s one."}`, "tuned_rouge_l"},
		{"completion", "auto", `{"text":"Once there was lamp %d, and it was %s, so that they called it the %s one."}`, "tuned_loss"},
	} {
		t.Run(c.task+" "+c.metric, func(t *testing.T) {
			var rows strings.Builder
			for i := range 60 {
				colour := []string{"red", "blue"}[i%2]
				fmt.Fprintf(&rows, c.row+"\n", i, colour, colour)
			}
			in := stagetest.Input(t, "dataset", "rows.jsonl", []byte(rows.String()), fmt.Sprintf(`{"task":%q,"template":%q,"model":"tiny",
				"training":{"epochs":2,"learning_rate":0.02},"evaluation":{"max_samples":4,"max_new_tokens":8},"export":{"gguf":["q8_0"]}}`, c.task, c.template))
			model := t.TempDir()
			tunedtest.WriteModel(t, model, []byte(rows.String()), weights.F32)
			tunedtest.AddTree(t, &in, contract.ModelInputs, "", model)

			var evaluated contract.Result
			for _, s := range []struct {
				name string
				run  contract.Stage
				next string
			}{
				{"dataset", dataset.Run, "validation"}, {"validation", validation.Run, "preprocessing"}, {"preprocessing", preprocessing.Run, "training"},
				{"training", training.Run, "evaluation"}, {"evaluation", evaluation.Run, "export"},
			} {
				r, _, err := stagetest.Run(context.Background(), t, s.run, in)
				if err != nil {
					t.Fatalf("%s: %v", s.name, err)
				}
				if s.name == "evaluation" {
					evaluated = r
				}
				in = tunedtest.Follow(t, in, r, s.next)
			}
			if _, ok := evaluated.Metrics[c.metric]; !ok || evaluated.Metrics["tuned_loss"] >= evaluated.Metrics["base_loss"] {
				t.Errorf("metrics %v, want %s and a lower loss", evaluated.Metrics, c.metric)
			}
			r, s, _ := run(t, &in)
			for _, name := range []string{"merged", "job_Q8_0.gguf", "job_adapter.gguf", "README.md", "model_card.json", "training_curve.png"} {
				if _, ok := r.Artifacts[name]; !ok {
					t.Errorf("no %s among %v", name, r.Artifacts)
				}
			}
			for _, name := range []string{"merged", "job_Q8_0.gguf"} {
				if p := s.Parity[name]; p.Positions == 0 || p.SameTop < 0.9 {
					t.Errorf("parity of %s: %+v", name, p)
				}
			}
			raw, err := os.ReadFile(filepath.Join(in.OutputDir, export.CardFile))
			if err != nil {
				t.Fatal(err)
			}
			var card struct{ Settings json.RawMessage }
			if err := json.Unmarshal(raw, &card); err != nil || !bytes.Contains(card.Settings, []byte(`"engine": "native"`)) || bytes.Contains(card.Settings, []byte(`"auto"`)) {
				t.Errorf("the card leaves open what was chosen: %s, %v", card.Settings, err)
			}
			readme, err := os.ReadFile(filepath.Join(in.OutputDir, export.ReadmeFile))
			if err != nil || !strings.Contains(string(readme), "- 2 epochs, ") || !strings.Contains(string(readme), "- engine native, frozen weights in f32, their products in f32\n") {
				t.Errorf("the README does not say what was done: %v\n%s", err, readme)
			}
			modelfile, err := os.ReadFile(filepath.Join(in.OutputDir, "Modelfile"))
			if err != nil || !strings.Contains(string(modelfile), "FROM ./job_Q8_0.gguf\nTEMPLATE ") {
				t.Errorf("Modelfile: %v\n%s", err, modelfile)
			}
		})
	}
}
