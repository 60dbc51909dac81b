package verify

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"

	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// shape is that of a model people know; its weights are random, which changes no
// speed.
type shape struct {
	name   string
	config func() model.Config
}

// Shapes by the names that --shape takes.
var Shapes = map[string]shape{
	"135m": {"SmolLM2-135M", func() model.Config { return llama(576, 1536, 30, 9, 3, 49152) }},
	"1b":   {"TinyLlama-1.1B", func() model.Config { return llama(2048, 5632, 22, 32, 4, 32000) }},
}

func tiny() model.Config { return llama(64, 96, 2, 4, 2, 64) }

func llama(hidden, inner, layers, heads, kv, vocab int) model.Config {
	return model.Config{
		Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama", HiddenAct: "silu",
		HiddenSize: hidden, IntermediateSize: inner, NumLayers: layers, NumHeads: heads, NumKVHeads: kv, HeadDim: hidden / heads,
		VocabSize: vocab, MaxPositions: 2048, RMSNormEps: 1e-5, RopeTheta: 10000, TieWordEmbeddings: true,
	}
}

// writeModel writes random weights, one tensor at a time: the small model in F32, a
// large one in BF16.
func writeModel(dir string, c model.Config) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("engine verify: %w", err)
	}
	data, err := json.Marshal(c)
	if err != nil {
		return fmt.Errorf("engine verify: %w", err)
	}
	if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o644); err != nil {
		return fmt.Errorf("engine verify: %w", err)
	}
	dtype := weights.F32
	if c.HiddenSize > 64 {
		dtype = weights.BF16
	}
	var infos []weights.TensorInfo
	lengths, ranks := map[string]int{}, map[string]int{}
	for _, s := range c.Tensors() {
		infos = append(infos, weights.TensorInfo{Name: s.Name, DType: dtype, Shape: s.Shape})
		lengths[s.Name], ranks[s.Name] = s.Len(), len(s.Shape)
	}
	rng := rand.New(rand.NewPCG(1, 2))
	return weights.WriteFloats(filepath.Join(dir, weights.SingleName), infos, func(name string) ([]float32, error) {
		values := make([]float32, lengths[name])
		for i := range values {
			values[i] = 1 // a norm's
			if ranks[name] > 1 {
				values[i] = float32(rng.NormFloat64() * 0.05)
			}
		}
		return values, nil
	})
}

// rows are sequences in which a token follows from the one before, so that there is
// something to learn.
func rows(n, length, vocab int, seed uint64) []model.Sequence {
	rng := rand.New(rand.NewPCG(seed, 7))
	list := make([]model.Sequence, n)
	for i := range list {
		token := rng.IntN(vocab)
		for range length {
			list[i].Tokens = append(list[i].Tokens, int32(token))
			list[i].Weights = append(list[i].Weights, 1)
			token = (token*5 + 3 + rng.IntN(2)) % vocab
		}
	}
	return list
}
