// Package tunedtest makes the inputs of the stages that follow training, for
// tests: a tiny random base model with a tokenizer of its own, samples as
// preprocessing makes them, adapters. It knows no stage after preprocessing.
package tunedtest

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/preprocessing"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/tokenizer/bpetrain"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// Labels of the tickets.
var Labels = []string{"bill", "billing", "login", "parcel"}

// Tickets is a CSV file of n short texts with a label each.
func Tickets(n int) []byte {
	words := [][]string{{"sum", "total", "pay"}, {"invoice", "charge", "refund"}, {"password", "account", "code"}, {"box", "courier", "street"}}
	rng := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	b.WriteString("text,label\n")
	for i := range n {
		c := i % len(Labels)
		fmt.Fprintf(&b, "ticket %d about the %s and the %s of a day %d,%s\n", i, words[c][rng.IntN(3)], words[c][rng.IntN(3)], rng.IntN(30), Labels[c])
	}
	return []byte(b.String())
}

// Job runs the stages before training on data and returns the input of one that
// follows, with a base model of the number format dtype. config is a JSON object.
func Job(t testing.TB, data []byte, config, dtype string) contract.Input {
	t.Helper()
	in := stagetest.Input(t, "dataset", "tickets.csv", data, config)
	addModel(t, &in, data, dtype)
	in = stage(t, in, dataset.Run, "preprocessing")
	return stage(t, in, preprocessing.Run, "after")
}

func stage(t testing.TB, in contract.Input, run contract.Stage, next string) contract.Input {
	t.Helper()
	r, _, err := stagetest.Run(context.Background(), t, run, in)
	if err != nil {
		t.Fatalf("%s: %v", in.Stage, err)
	}
	return Follow(t, in, r, next)
}

// Follow gives the input of the stage after in's, with the artifacts in r.
func Follow(t testing.TB, in contract.Input, r contract.Result, next string) contract.Input {
	t.Helper()
	after := stagetest.Next(t, in, r, next)
	for name, a := range r.Artifacts {
		AddTree(t, &after, in.Stage, name, filepath.Join(in.OutputDir, filepath.FromSlash(a.Path)))
	}
	return after
}

// AddTree adds the file or folder at path as the artifact name of a stage.
func AddTree(t testing.TB, in *contract.Input, stage, name, path string) {
	t.Helper()
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(path, p)
		if err != nil {
			return err
		}
		stagetest.AddFile(t, in, stage, filepath.ToSlash(filepath.Join(name, rel)), data)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func addModel(t testing.TB, in *contract.Input, corpus []byte, dtype string) {
	t.Helper()
	dir := t.TempDir()
	WriteModel(t, dir, corpus, dtype)
	AddTree(t, in, contract.ModelInputs, "", dir)
}

// WriteModel writes a tiny random model in Hugging Face's layout to dir.
func WriteModel(t testing.TB, dir string, corpus []byte, dtype string) {
	t.Helper()
	writeModel(t, dir, corpus, dtype, func(*model.Config) {})
}

func writeModel(t testing.TB, dir string, corpus []byte, dtype string, change func(*model.Config)) {
	t.Helper()
	tok, err := bpetrain.Train(context.Background(), strings.Lines(string(corpus)), bpetrain.Config{VocabSize: 400})
	if err != nil {
		t.Fatal(err)
	}
	end := 2 // <|im_end|>
	cfg := model.Config{
		Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama", HiddenAct: "silu",
		TorchDType: map[string]string{weights.F32: "float32", weights.BF16: "bfloat16", weights.F16: "float16"}[dtype],
		HiddenSize: 32, IntermediateSize: 64, NumLayers: 2, NumHeads: 4, NumKVHeads: 2, HeadDim: 8, VocabSize: len(tok.Tokens), MaxPositions: 160,
		RMSNormEps: 1e-5, RopeTheta: 10000, TieWordEmbeddings: true, EOSTokenIDs: model.TokenIDs{end},
	}
	change(&cfg)
	m, err := model.NewRandom(cfg, 7)
	if err != nil {
		t.Fatal(err)
	}
	var infos []weights.TensorInfo
	for _, spec := range cfg.Tensors() {
		infos = append(infos, weights.TensorInfo{Name: spec.Name, DType: dtype, Shape: spec.Shape})
	}
	err = weights.WriteFloats(filepath.Join(dir, weights.SingleName), infos, func(name string) ([]float32, error) {
		shape, data, err := m.MergedTensor(name)
		data = slices.Clone(data)
		for i := range data { // as sharp as a trained model, not all but uniform
			if len(shape) == 2 {
				data[i] *= 8
			}
		}
		return data, err
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := tok.WriteFile(filepath.Join(dir, "tokenizer.json")); err != nil {
		t.Fatal(err)
	}
	chatml, err := template.ByName("chatml", "<|im_end|>")
	if err != nil {
		t.Fatal(err)
	}
	for name, v := range map[string]any{
		"config.json":           cfg,
		"tokenizer_config.json": map[string]any{"eos_token": "<|im_end|>", "chat_template": chatml.Jinja(), "tokenizer_class": "PreTrainedTokenizerFast"},
	} {
		data, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "README.md"), []byte("---\nlicense: apache-2.0\n---\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// AddAdapter adds a LoRA adapter for the job's base model, whose B matrices are
// normal with a deviation of scale; change, if set, may alter it before.
func AddAdapter(t testing.TB, in *contract.Input, scale float64, change func(*adapter.Config, []adapter.Tensor) []adapter.Tensor) {
	t.Helper()
	base, err := in.Dir(contract.ModelInputs, "")
	if err != nil {
		t.Fatal(err)
	}
	m, err := tuned.Open(base)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := m.AddLoRA(model.LoRAConfig{Rank: 4, Alpha: 8, TargetModules: []string{"all-linear"}}, 3); err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(9, 9))
	var tensors []adapter.Tensor
	for _, p := range m.Params() {
		data := slices.Clone(p.Data)
		if _, isB, _ := adapter.Module(p.Name); isB {
			for i := range data {
				data[i] = float32(rng.NormFloat64() * scale)
			}
		}
		tensors = append(tensors, adapter.Tensor{Name: p.Name, Rows: p.Shape[0], Cols: p.Shape[1], Data: data})
	}
	cfg := adapter.NewConfig("tiny", 4, 8, 0, false, contract.TargetModules)
	if change != nil {
		tensors = change(&cfg, tensors)
	}
	dir := t.TempDir()
	if err := adapter.Save(dir, cfg, tensors); err != nil {
		t.Fatal(err)
	}
	AddTree(t, in, "training", tuned.AdapterFolder, dir)
}
