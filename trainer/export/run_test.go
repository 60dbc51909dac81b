package export_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"image/png"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/evaluation"
	"github.com/tunemesh/tunemesh/trainer/export"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/training"
	"github.com/tunemesh/tunemesh/trainer/training/history"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/tuned/tunedtest"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

func run(t *testing.T, in *contract.Input) (contract.Result, export.Summary, stagetest.Log) {
	t.Helper()
	in.Stage, in.OutputDir = "export", t.TempDir()
	r, log, err := stagetest.Run(context.Background(), t, export.Run, *in)
	if err != nil {
		t.Fatal(err)
	}
	stagetest.Next(t, *in, r, "after")
	return r, r.Output[export.OutputKey].(export.Summary), log
}

func addLog(t *testing.T, in *contract.Input) {
	t.Helper()
	stagetest.AddFile(t, in, "training", history.FileName, []byte(`{"steps":[{"step":1,"loss":3},{"step":2,"loss":2}],"evaluations":[{"step":2,"eval_loss":2.1}]}`))
}

func TestTheMergedModelIsTheTunedOne(t *testing.T) {
	for _, dtype := range []string{weights.F32, weights.BF16} {
		t.Run(dtype, func(t *testing.T) {
			in := tunedtest.Job(t, tunedtest.Tickets(60), `{"model":"tiny","export":{}}`, dtype)
			tunedtest.AddAdapter(t, &in, 0.1, nil)
			addLog(t, &in)
			r, s, _ := run(t, &in)
			places := map[string]string{}
			for name, a := range r.Artifacts {
				places[name] = a.Place
			}
			for name, place := range map[string]string{"merged": "merged", "job_F16.gguf": "gguf", "job_Q8_0.gguf": "gguf", "job_Q4_K_M.gguf": "gguf", "job_adapter.gguf": "gguf", "Modelfile": "gguf", "Modelfile.adapter": "gguf", "training_curve.png": "", "model_card.json": "", "README.md": ""} {
				if got, ok := places[name]; !ok || got != place {
					t.Errorf("artifact %s: there %v, place %q, want %q", name, ok, got, place)
				}
			}
			p := s.Parity["merged"]
			if p.Positions < 8 || p.TrainedDelta < 10*p.MaxDelta {
				t.Errorf("parity %+v: the adapter has to matter, and the merged model to have it", p)
			}
			if dtype == weights.F32 && (p.MaxDelta > 1e-4*p.MaxLogit || p.SameTop != 1) {
				t.Errorf("F32 parity %+v", p)
			}
			if p := s.Parity["job_adapter.gguf"]; p.Positions < 8 || p.MaxDelta > 1e-4 || p.SameTop != 1 {
				t.Errorf("the adapter's parity %+v: it holds every bit", p)
			}
			merged := filepath.Join(in.OutputDir, "merged")
			f, err := weights.Open(merged)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			for _, name := range f.Names() {
				if info, _ := f.Info(name); info.DType != dtype {
					t.Errorf("%s has dtype %s", name, info.DType)
				}
			}
			if tmpl, err := template.ForModel(merged); err != nil || tmpl.Name() != "chatml" {
				t.Errorf("template of the merged model: %v", err)
			}
			for name, want := range map[string]gguf.Type{"job_F16.gguf": gguf.F16, "job_Q8_0.gguf": gguf.Q8_0, "job_Q4_K_M.gguf": gguf.Q5_0} {
				g, err := gguf.Open(filepath.Join(in.OutputDir, name))
				if err != nil {
					t.Fatal(err)
				}
				defer g.Close()
				if info, ok := g.Tensor("blk.0.attn_q.weight"); !ok || info.Type != want {
					t.Errorf("%s: attn_q is %v, there: %v", name, info.Type, ok)
				}
			}
			picture, err := os.ReadFile(filepath.Join(in.OutputDir, "training_curve.png"))
			if err != nil {
				t.Fatal(err)
			}
			if _, err := png.Decode(bytes.NewReader(picture)); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestTheCardNamesDataSettingsMetricsAndFiles(t *testing.T) {
	in := tunedtest.Job(t, tunedtest.Tickets(60), `{"model":"tiny"}`, weights.BF16)
	tunedtest.AddAdapter(t, &in, 0.1, nil)
	stagetest.AddFile(t, &in, contract.ModelInputs, "LICENSE", []byte("what is allowed"))
	addLog(t, &in)
	for i := range in.Inputs {
		if in.Inputs[i].Stage == contract.SourceInputs {
			in.Inputs[i].OriginalName = "support tickets.csv"
		}
	}
	in.Stage = "evaluation"
	evaluated, _, err := stagetest.Run(context.Background(), t, evaluation.Run, in)
	if err != nil {
		t.Fatal(err)
	}
	in = tunedtest.Follow(t, in, evaluated, "export")
	run(t, &in)
	raw, err := os.ReadFile(filepath.Join(in.OutputDir, export.CardFile))
	if err != nil {
		t.Fatal(err)
	}
	var card export.Card
	if err := json.Unmarshal(raw, &card); err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(tunedtest.Tickets(60))
	if card.Data == nil || card.Data.SHA256 != hex.EncodeToString(sum[:]) || card.Data.Rows != 60 || card.Data.Name != "support tickets.csv" || card.Data.File == "" || strings.Join(card.Data.Columns, " ") != "text label" {
		t.Errorf("data %+v", card.Data)
	}
	if card.Base.Name != "tiny" || card.Base.License != "apache-2.0" || card.Base.DType != "bfloat16" || card.Base.Parameters == 0 {
		t.Errorf("base model %+v", card.Base)
	}
	if card.Metrics == nil || card.Metrics.TestSamples == 0 || card.Metrics.Tuned.Classification == nil || len(card.Metrics.Answers) > 0 {
		t.Errorf("metrics %+v", card.Metrics)
	}
	if card.Settings.Training.Rank != (contract.Config{}).WithDefaults().Training.Rank || card.Prepared == nil || card.Prepared.Template != "chatml" {
		t.Errorf("settings %+v, preprocessing %+v", card.Settings.Training, card.Prepared)
	}
	for _, form := range []string{"merged", "job_F16.gguf", "job_Q8_0.gguf", "job_Q4_K_M.gguf", "job_adapter.gguf"} {
		if p, ok := card.Parity[form]; !ok || p.Positions == 0 || p.Limit == 0 {
			t.Errorf("the drift of %s is %+v", form, p)
		}
	}
	if len(card.Metrics.Comparisons) < 3 || card.Metrics.Verdict == "" {
		t.Errorf("comparisons %+v", card.Metrics.Comparisons)
	}
	names := map[string]bool{}
	for _, f := range card.Files {
		names[f.Name] = true
		data, err := os.ReadFile(filepath.Join(in.OutputDir, filepath.FromSlash(f.Name)))
		if err != nil {
			t.Fatal(err)
		}
		if sum := sha256.Sum256(data); f.Size != int64(len(data)) || f.SHA256 != hex.EncodeToString(sum[:]) {
			t.Errorf("%s: card says %d bytes, %s", f.Name, f.Size, f.SHA256)
		}
	}
	for _, name := range []string{"merged/config.json", "merged/model.safetensors", "merged/tokenizer.json", "merged/tokenizer_config.json", "merged/generation_config.json", "job_F16.gguf", "job_Q8_0.gguf", "job_Q4_K_M.gguf", "job_adapter.gguf", "Modelfile", "Modelfile.adapter", "LICENSE", "merged/LICENSE"} {
		if !names[name] {
			t.Errorf("the card lacks %s", name)
		}
	}
	readme, err := os.ReadFile(filepath.Join(in.OutputDir, "merged", export.ReadmeFile))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"---\nlicense: apache-2.0\n", "tiny, tuned with LoRA for classification on support tickets.csv.", "model-index:", "dataset: {type: private, name: \"support tickets.csv\"}", "- dataset: support tickets.csv, 60 rows", "| `job_adapter.gguf` |", "library_name: transformers", "pipeline_tag: text-generation", "| accuracy |", card.Metrics.Verdict, "| `job_Q4_K_M.gguf` |", "rows that do not fill its blocks", "- cleaning: ", "personal values redacted", " to ", "ollama create"} {
		if !strings.Contains(string(readme), want) {
			t.Errorf("the README lacks %q:\n%s", want, readme)
		}
	}
}

func TestAFullFineTuneIsExportedToo(t *testing.T) {
	in := tunedtest.Job(t, tunedtest.Tickets(60), `{"training":{"method":"full","epochs":1}}`, weights.BF16)
	in.Stage = "training"
	trained, _, err := stagetest.Run(context.Background(), t, training.Run, in)
	if err != nil {
		t.Fatal(err)
	}
	in = tunedtest.Follow(t, in, trained, "export")
	r, s, _ := run(t, &in)
	if p := s.Parity["merged"]; p.MaxDelta != 0 || p.TrainedDelta == 0 {
		t.Errorf("parity %+v", p)
	}
	if _, ok := r.Artifacts["job_F16.gguf"]; !ok {
		t.Error("there is no GGUF")
	}
}

func TestTheAdapterAlone(t *testing.T) {
	in := tunedtest.Job(t, tunedtest.Tickets(60), `{"export":{"skip_merged":true}}`, weights.BF16)
	tunedtest.AddAdapter(t, &in, 0.1, nil)
	r, s, log := run(t, &in)
	if p := s.Parity["job_adapter.gguf"]; p.Positions < 8 || p.SameTop != 1 {
		t.Errorf("parity %+v", p)
	}
	if _, ok := r.Artifacts["merged"]; ok {
		t.Error("a merged model was written")
	}
	g, err := gguf.Open(filepath.Join(in.OutputDir, "job_adapter.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	defer g.Close()
	if kind, _ := g.Value("general.type"); kind != "adapter" {
		t.Errorf("general.type is %v", kind)
	}
	if _, ok := log.Warning("NO_TRAINING_LOG"); !ok {
		t.Error("nothing is said of the missing log")
	}
}

func TestWhatRoundingTakesAwayIsSaid(t *testing.T) {
	in := tunedtest.Job(t, tunedtest.Tickets(60), `{}`, weights.BF16)
	tunedtest.AddAdapter(t, &in, 1e-5, nil) // far below the last bit of the weights
	_, _, log := run(t, &in)
	if _, ok := log.Warning("LOST_IN_ROUNDING"); !ok {
		t.Error("not said")
	}
}

func TestABrokenAdapterIsNotExported(t *testing.T) {
	in := tunedtest.Job(t, tunedtest.Tickets(40), `{}`, weights.BF16)
	tunedtest.AddAdapter(t, &in, 0.1, nil)
	dir, err := in.DirName(tuned.AdapterFolder)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(filepath.Join(dir, "adapter_model.safetensors"), 1000); err != nil {
		t.Fatal(err)
	}
	in.Stage = "export"
	_, _, err = stagetest.Run(context.Background(), t, export.Run, in)
	var fault *contract.Error
	if !errors.As(err, &fault) || fault.Code != "BAD_ADAPTER" || fault.Class.Retryable() {
		t.Errorf("got %v", err)
	}
}

func TestCheckSaysBeforehandWhatCannotBeExported(t *testing.T) {
	edit := func(t *testing.T, dir, name, from, to string) {
		t.Helper()
		path := filepath.Join(dir, name)
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := strings.ReplaceAll(string(data), from, to)
		if changed == string(data) {
			t.Fatalf("%s has no %q", name, from)
		}
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		change  func(t *testing.T, dir string)
		formats []string
		code    string
	}{
		"nothing":              {func(*testing.T, string) {}, []string{"f16", "bf16", "f32", "q8_0", "q4_k_m"}, ""},
		"an unknown format":    {func(*testing.T, string) {}, []string{"f16", "q3_k"}, "UNKNOWN_FORMAT"},
		"another architecture": {func(t *testing.T, dir string) { edit(t, dir, "config.json", "LlamaForCausalLM", "GPT2LMHeadModel") }, []string{"f16"}, "UNUSABLE_MODEL"},
		"another shape": {func(t *testing.T, dir string) {
			edit(t, dir, "config.json", `"intermediate_size":64`, `"intermediate_size":96`)
		}, nil, "UNUSABLE_MODEL"},
		"no tokenizer": {func(t *testing.T, dir string) {
			if err := os.Remove(filepath.Join(dir, "tokenizer.json")); err != nil {
				t.Fatal(err)
			}
		}, []string{"f16"}, "UNUSABLE_MODEL"},
		"a pre-tokenizer that llama.cpp lacks": {func(t *testing.T, dir string) {
			edit(t, dir, "tokenizer.json", `"add_prefix_space":false`, `"add_prefix_space":true`)
		}, []string{"f16"}, "NOT_CONVERTIBLE"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			tunedtest.WriteModel(t, dir, tunedtest.Tickets(40), weights.BF16)
			c.change(t, dir)
			err := export.Check(dir, c.formats)
			var fault *contract.Error
			switch {
			case c.code == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.code != "" && (!errors.As(err, &fault) || fault.Code != c.code || fault.Class.Retryable()):
				t.Errorf("got %v, want %s", err, c.code)
			}
		})
	}
}
