package export_test

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/training"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/tuned/tunedtest"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// A base model of every architecture goes the whole way: LoRA and full fine-tuning,
// the merged model with its own config.json, GGUF under llama.cpp's name, each read
// again and compared with the tuned model by the stage itself.
func TestEveryArchitectureIsTrainedAndExported(t *testing.T) {
	arch := map[string]string{"MistralForCausalLM": "llama", "Qwen2ForCausalLM": "qwen2", "Qwen3ForCausalLM": "qwen3", "Gemma3ForCausalLM": "gemma3"}
	for name, change := range tunedtest.Families() {
		for _, method := range []string{"lora", "full"} {
			t.Run(name+"/"+method, func(t *testing.T) {
				in := tunedtest.JobOf(t, tunedtest.Tickets(40), `{"training":{"method":"`+method+`","epochs":1},"export":{"gguf":["f16"]}}`, weights.F32, change)
				in.Stage = "training"
				trained, _, err := stagetest.Run(context.Background(), t, training.Run, in)
				if err != nil {
					t.Fatal(err)
				}
				in = tunedtest.Follow(t, in, trained, "export")
				_, s, _ := run(t, &in)
				if p := s.Parity["merged"]; p.TrainedDelta == 0 || p.MaxDelta > 1e-4*p.MaxLogit || p.SameTop != 1 {
					t.Errorf("parity %+v", p)
				}
				merged := filepath.Join(in.OutputDir, "merged")
				cfg, err := tuned.Config(merged)
				if err != nil {
					t.Fatal(err)
				}
				if cfg.Architectures[0] != name {
					t.Errorf("the merged model is a %v", cfg.Architectures)
				}
				m, err := tuned.Open(merged)
				if err != nil {
					t.Fatal(err)
				}
				m.Close()
				f, err := gguf.Open(filepath.Join(in.OutputDir, "job_F16.gguf"))
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				if got, _ := f.Value("general.architecture"); got != arch[name] {
					t.Errorf("GGUF: architecture %v", got)
				}
				if method == "full" {
					return
				}
				raw, err := os.ReadFile(filepath.Join(merged, "config.json"))
				if err != nil {
					t.Fatal(err)
				}
				var config map[string]any
				if err := json.Unmarshal(raw, &config); err != nil || config["torch_dtype"] != "float32" {
					t.Errorf("config.json: %v, %v", config["torch_dtype"], err)
				}
			})
		}
	}
}
