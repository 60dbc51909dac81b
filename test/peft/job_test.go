package peft_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/engine"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/sample"
	"github.com/tunemesh/tunemesh/trainer/training"
	"github.com/tunemesh/tunemesh/trainer/training/history"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// installed returns the environment, and points stages to it.
func installed(t testing.TB) contract.EngineManifest {
	t.Helper()
	switch dir := os.Getenv("TUNEMESH_PEFT"); dir {
	case "":
		t.Skip("needs PyTorch: run make test-peft, or set TUNEMESH_PEFT to where the engine is installed")
	case "1":
	default:
		t.Setenv(contract.EnvEngines, dir)
	}
	m, err := contract.FindEngine(contract.EngineFolders(""), engine.PEFT)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func llama() model.Config {
	return model.Config{
		Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama", HiddenAct: "silu",
		HiddenSize: 64, IntermediateSize: 96, NumLayers: 2, NumHeads: 4, NumKVHeads: 2, HeadDim: 16,
		VocabSize: 64, MaxPositions: 64, RMSNormEps: 1e-5, RopeTheta: 10000, TieWordEmbeddings: true,
	}
}

// job is the input of a training on a small random model: 160 samples whose last
// two tokens follow from the first ones.
func job(t testing.TB, shape model.Config, config string) contract.Input {
	t.Helper()
	in := stagetest.Input(t, "training", "data.csv", []byte("not read"), config)
	m, err := model.NewRandom(shape, 5)
	if err != nil {
		t.Fatal(err)
	}
	var infos []weights.TensorInfo
	for _, spec := range shape.Tensors() {
		infos = append(infos, weights.TensorInfo{Name: spec.Name, DType: weights.F32, Shape: spec.Shape})
	}
	path := filepath.Join(t.TempDir(), weights.SingleName)
	err = weights.WriteFloats(path, infos, func(name string) ([]float32, error) {
		_, values, err := m.MergedTensor(name)
		return values, err
	})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	described, err := json.Marshal(shape)
	if err != nil {
		t.Fatal(err)
	}
	stagetest.AddFile(t, &in, contract.ModelInputs, "config.json", described)
	stagetest.AddFile(t, &in, contract.ModelInputs, weights.SingleName, raw)
	stagetest.AddFile(t, &in, "preprocessing", sample.TrainFile, samples(160, 1))
	stagetest.AddFile(t, &in, "preprocessing", sample.ValidationFile, samples(16, 2))
	return in
}

func samples(n int, seed uint64) []byte {
	var out []byte
	for _, s := range sampled(n, seed) {
		out = sample.Append(out, &s)
	}
	return out
}

func sampled(n int, seed uint64) []sample.Sample {
	rng := rand.New(rand.NewPCG(seed, 0))
	var list []sample.Sample
	for i := range n {
		s := sample.Sample{Row: int64(i + 2)}
		for range 4 + rng.IntN(20) {
			s.Tokens = append(s.Tokens, int32(rng.IntN(50)))
		}
		s.PromptTokens = len(s.Tokens)
		s.Tokens = append(s.Tokens, 50+s.Tokens[0]%4, 54+s.Tokens[1]%4)
		s.Loss = [][2]int{{s.PromptTokens, len(s.Tokens)}}
		list = append(list, s)
	}
	return list
}

// config of a training of 20 steps; more holds further fields with a comma behind.
func config(name, more string) string {
	return fmt.Sprintf(`{"model":"tiny","export":{"skip_merged":true},"training":{"engine":%q,%s"epochs":1,"batch_size":4,"gradient_accumulation":2,"rank":4,"learning_rate":0.01,"checkpoint_steps":5,"logging_steps":1}}`, name, more)
}

func run(t testing.TB, in contract.Input) (training.Summary, history.Log) {
	t.Helper()
	result, _, err := stagetest.Run(context.Background(), t, training.Run, in)
	if err != nil {
		t.Fatal(err)
	}
	log, err := history.Read(filepath.Join(in.OutputDir, history.FileName))
	if err != nil {
		t.Fatal(err)
	}
	return result.Output[training.OutputKey].(training.Summary), log
}
