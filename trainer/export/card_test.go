package export

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/sample"
	"github.com/tunemesh/tunemesh/trainer/table"
)

const trainingOutput = `{"engine":"native","steps":6,"epochs":0.6,"exported_step":6,"learning_rate":0.002,"batch_size":4,"gradient_accumulation":2,
	"packing_tokens":512,"base_precision":"bf16","compute":"f32","bits":["native on AVX2"]}`

// The card has what the stages chose where the job left it open; what the job says stands.
func TestTheCardHasWhatTheStagesChose(t *testing.T) {
	done, ok := readTrained(json.RawMessage(trainingOutput))
	if !ok {
		t.Fatal("the output is not read")
	}
	profile := &dataset.Profile{Format: table.Format{Kind: "csv"}}
	prepared := &sample.Summary{Template: "chatml", InputColumn: "text", LabelColumn: "label", Instruction: "Classify.", TokenLimit: 128}
	got := settle(contract.Config{}.WithDefaults(), profile, prepared, &done)
	tr := got.Training
	if tr.LearningRate != 0.002 || tr.BatchSize != 4 || tr.GradientAccum != 2 || tr.PackingTokens != 512 || tr.BasePrecision != "bf16" || tr.Compute != "f32" || tr.Engine != "native" || tr.OnDivergence != "warn" {
		t.Errorf("training %+v", tr)
	}
	if got.Dataset.Format != "csv" || got.Template != "chatml" || got.TextColumn != "text" || got.LabelColumn != "label" || got.Instruction != "Classify." || got.Preprocessing.MaxLength != 128 {
		t.Errorf("settings %+v", got)
	}
	if raw, err := json.Marshal(got); err != nil || strings.Contains(string(raw), `"auto"`) {
		t.Errorf("something is open still: %s, %v", raw, err)
	}
	given := contract.Config{Template: "llama", TextColumn: "body", Instruction: "Sort.", Training: contract.TrainingConfig{LearningRate: 0.1, BatchSize: 16, GradientAccum: 1, PackingTokens: 64, BasePrecision: "int8", Compute: "bf16", Engine: "native", OnDivergence: "stop"}}
	got = settle(given.WithDefaults(), profile, prepared, &done)
	tr = got.Training
	if tr.LearningRate != 0.1 || tr.BatchSize != 16 || tr.GradientAccum != 1 || tr.PackingTokens != 64 || tr.BasePrecision != "int8" || tr.Compute != "bf16" || tr.OnDivergence != "stop" || got.Template != "llama" || got.TextColumn != "body" || got.Instruction != "Sort." {
		t.Errorf("given: %+v", got)
	}
	if got := settle(given.WithDefaults(), nil, nil, nil); got.Training.BatchSize != 16 || got.Template != "llama" {
		t.Errorf("without outputs: %+v", got)
	}
}

// The README says how long the training was, and by what it was made, not what was asked for.
func TestTheReadmeSaysWhatWasDone(t *testing.T) {
	for name, c := range map[string]struct {
		config, output string
		want           []string
	}{
		"whole":           {`{}`, `{"steps":40,"epochs":4,"exported_step":40}`, []string{"- 4 epochs, 40 steps\n"}},
		"one epoch":       {`{"training":{"epochs":1}}`, `{"steps":1,"epochs":1,"exported_step":1}`, []string{"- 1 epoch, 1 step\n"}},
		"so many steps":   {`{"training":{"max_steps":6}}`, trainingOutput, []string{"- 0.6 epochs, 6 steps, as training.max_steps says\n"}},
		"stopped early":   {`{"training":{"early_stopping_patience":2}}`, `{"steps":19,"epochs":1.9,"exported_step":10,"early_stopped":true}`, []string{"- 1.9 of 4 epochs, 19 steps; stopped early, after 2 evaluations without a better loss\n", "- the weights are those of step 10, which had the lowest loss"}},
		"rank-stabilised": {`{"training":{"use_rslora":true,"rank":4,"alpha":8}}`, trainingOutput, []string{"- rank 4, alpha 8, scaled by alpha/√rank (rsLoRA), dropout 0, on all-linear\n"}},
		"packed":          {`{}`, trainingOutput, []string{"- rank 16, alpha 32, scaled by alpha/rank,", "- steps of 8 samples, packed into micro-batches of at most 512 tokens\n", "- AdamW, peak learning rate 0.002, schedule cosine,", "- engine native, frozen weights in bf16, their products in f32\n", "- computed by: native on AVX2\n"}},
		"not packed":      {`{"training":{"batch_size":4,"gradient_accumulation":2}}`, `{"steps":40,"epochs":4,"exported_step":40}`, []string{"- steps of 8 samples, in micro-batches of 4\n"}},
		"another engine":  {`{}`, `{"engine":"peft","base_precision":"auto","steps":40,"epochs":4,"bits":["peft on cpu"]}`, []string{"- engine peft\n- computed by: peft on cpu\n"}},
		"continued": {`{"training":{"init_adapter":"/somewhere/a"}}`, `{"engine":"native","steps":40,"epochs":4,"continued_adapter":{"from":"01JDCK3V5W8M2N4P6Q7R8S9T0V","sha256":"ab12","rank":3,"alpha":5,"use_rslora":true,"target_modules":["q_proj"]}}`,
			[]string{"- rank 3, alpha 5, scaled by alpha/√rank (rsLoRA), dropout 0, on q_proj\n- begun with the adapter of 01JDCK3V5W8M2N4P6Q7R8S9T0V, SHA-256 `ab12`\n"}},
		"no training": {`{}`, ``, []string{"- at most 4 epochs\n"}},
	} {
		t.Run(name, func(t *testing.T) {
			config, err := contract.ParseConfig([]byte(c.config), true)
			if err != nil {
				t.Fatal(err)
			}
			card := Card{}
			if done, ok := readTrained(json.RawMessage(c.output)); ok {
				card.trained = &done
			}
			card.Settings = settle(config.WithDefaults(), nil, nil, card.trained)
			if a := card.Settings.Training.InitAdapter; card.trained != nil && card.trained.Continued != nil && a != card.trained.Continued.From {
				t.Errorf("the settings name the adapter %q", a)
			}
			text := card.readme("LoRA", "")
			for _, want := range c.want {
				if !strings.Contains(text, want) {
					t.Errorf("the README lacks %q:\n%s", want, text)
				}
			}
		})
	}
}

// The front matter has what a hub takes: a licence of its list or a name and a link to the
// text, a base model that is there.
func TestTheFrontMatterIsAHubs(t *testing.T) {
	for name, c := range map[string]struct {
		model, readme, imported string
		source                  string
		files                   []string
		want                    string
		without                 string
	}{
		"of the list":       {model: "tiny", readme: "---\nlicense: Apache-2.0\n---\n", files: []string{"LICENSE"}, want: "license: apache-2.0\nlibrary_name:", without: "base_model"},
		"a hub's model":     {model: "org/Tiny-1.5", readme: "---\nlicense: mit\n---\n", want: "license: mit\nbase_model: \"org/Tiny-1.5\"\nbase_model_relation: finetune\nlibrary_name:"},
		"fetched from one":  {model: "tiny", source: "hf:org/Tiny-1.5@0a1b2c", want: "license: unknown\nbase_model: \"org/Tiny-1.5\"\nbase_model_relation: finetune\n"},
		"a file of a hub's": {model: "org/other", source: "hf:org/Tiny-GGUF/tiny.Q8_0.gguf@0a1b2c", want: "license: unknown\nbase_model: \"org/Tiny-GGUF\"\n"},
		"from Ollama":       {model: "tiny", source: "ollama:org/tiny:1b", want: "license: unknown\nlibrary_name:", without: "base_model"},
		"not of the list":   {model: "tiny", imported: `{"license":"Some Research License, 2.0"}`, files: []string{"LICENSE.txt", "NOTICE"}, want: "license: other\nlicense_name: \"some-research-license-2.0\"\nlicense_link: \"LICENSE.txt\"\nlibrary_name:"},
		"another's name":    {model: "tiny", readme: "---\nlicense: other\nlicense_name: our-terms\nlicense_link: https://example.org/terms\n---\n", want: "license: other\nlicense_name: \"our-terms\"\nlicense_link: \"https://example.org/terms\"\n"},
		"a text alone":      {model: "My Tiny", imported: `{"license":"see LICENSE.md"}`, files: []string{"LICENSE.md"}, want: "license: other\nlicense_name: \"my-tiny-license\"\nlicense_link: \"LICENSE.md\"\n"},
		"a link to nothing": {model: "tiny", readme: "---\nlicense: other\nlicense_name: x\nlicense_link: LICENSE\n---\n", want: "license: other\nlicense_name: \"x\"\nlibrary_name:"},
		"nothing":           {model: "tiny", want: "license: unknown\nlibrary_name:"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for _, file := range c.files {
				c := "the text"
				if err := os.WriteFile(filepath.Join(dir, file), []byte(c), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			for file, text := range map[string]string{ReadmeFile: c.readme, "import.json": c.imported} {
				if text != "" {
					if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			card := Card{Base: BaseModel{Name: c.model, Source: c.source}}
			var err error
			if card.Base.License, card.Base.LicenseLink, err = readLicense(dir); err != nil {
				t.Fatal(err)
			}
			text := card.readme("LoRA", "")
			if !strings.HasPrefix(text, "---\n"+c.want) || c.without != "" && strings.Contains(text, c.without) {
				t.Errorf("want %q:\n%.300s", c.want, text)
			}
			if !strings.Contains(text, c.model+", tuned with LoRA") {
				t.Errorf("the text does not name the base model:\n%s", text)
			}
		})
	}
}
