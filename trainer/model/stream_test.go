package model_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/model"
)

// stored is a model's tensors as a source, which counts what is released.
type stored struct {
	m        *model.Model
	released map[string]int
}

func (s *stored) Names() []string { return nil }

func (s *stored) Tensor(name string) (string, []int, []byte, error) {
	shape, values, err := s.m.MergedTensor(name)
	if err != nil {
		return "", nil, nil, err
	}
	data := make([]byte, 0, 4*len(values))
	for _, v := range values {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(v))
	}
	return "F32", shape, data, nil
}

func (s *stored) Release(name string) { s.released[name]++ }

// One block at a time computes what the whole model does, of every architecture, with
// an adapter and without.
func TestStreamedIsTheWholeModel(t *testing.T) {
	window := 6
	base := model.Config{
		Architectures: []string{"LlamaForCausalLM"}, ModelType: "llama", HiddenAct: "silu", HiddenSize: 32, IntermediateSize: 48, NumLayers: 3,
		NumHeads: 4, NumKVHeads: 2, HeadDim: 8, VocabSize: 50, MaxPositions: 64, RMSNormEps: 1e-5, RopeTheta: 10000,
	}
	gemma := base
	gemma.Architectures, gemma.ModelType, gemma.HiddenAct, gemma.TieWordEmbeddings = []string{"Gemma3ForCausalLM"}, "gemma3_text", "gelu_pytorch_tanh", true
	gemma.SlidingWindow, gemma.LayerTypes = &window, []string{"sliding_attention", "full_attention", "sliding_attention"}
	gemma.RopeLocalTheta, gemma.QueryScalar = 500, 8
	qwen := base
	qwen.Architectures, qwen.ModelType = []string{"Qwen2ForCausalLM"}, "qwen2"
	for _, cfg := range []model.Config{base, qwen, gemma} {
		for _, lora := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, adapter %v", cfg.ModelType, lora), func(t *testing.T) {
				whole, err := model.NewRandom(cfg, 3)
				if err != nil {
					t.Fatal(err)
				}
				frozen, err := model.NewRandom(cfg, 3)
				if err != nil {
					t.Fatal(err)
				}
				source := &stored{frozen, map[string]int{}}
				s := model.Streamed{Config: cfg, Source: source}
				if lora {
					c := model.LoRAConfig{Rank: 3, Alpha: 9, TargetModules: []string{"q_proj", "down_proj"}}
					if err := whole.AddLoRA(c, 1); err != nil {
						t.Fatal(err)
					}
					rng := rand.New(rand.NewPCG(1, 2))
					values := map[string][]float32{}
					for _, p := range whole.Params() {
						for i := range p.Data {
							p.Data[i] = float32(rng.NormFloat64())
						}
						values[p.Name] = p.Data
					}
					s.LoRA = &c
					s.Adapter = func(name string) ([]float32, error) { return values[name], nil }
				}
				probes := []model.Probe{{Tokens: []int32{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11}, From: 4}, {Tokens: []int32{49}, From: 0}}
				got, err := s.Logits(context.Background(), probes)
				if err != nil {
					t.Fatal(err)
				}
				i := 0
				for _, p := range probes {
					session := whole.NewSession()
					for at, token := range p.Tokens {
						row, err := session.Append([]int32{token})
						if err != nil {
							t.Fatal(err)
						}
						if at < p.From {
							continue
						}
						for j, v := range row {
							if d := math.Abs(float64(v - got[i][j])); d > 1e-4 {
								t.Fatalf("position %d, token %d: %g, the whole model has %g", at, j, got[i][j], v)
							}
						}
						i++
					}
				}
				if i != len(got) {
					t.Errorf("%d distributions, want %d", len(got), i)
				}
				for _, spec := range cfg.Tensors() {
					if len(spec.Shape) == 2 && source.released[spec.Name] == 0 {
						t.Errorf("%s is not released", spec.Name)
					}
				}
			})
		}
	}
}
