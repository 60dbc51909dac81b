package model

import (
	"math"
	"math/rand/v2"
)

// InitialLoRA returns the tensors that AddLoRA would add to a model of this
// shape, with their first values: for an engine that holds the model elsewhere.
func (c Config) InitialLoRA(lora LoRAConfig, seed uint64) ([]*Param, error) {
	targets, err := lora.targets()
	if err != nil {
		return nil, err
	}
	rng := loraRand(seed)
	var list []*Param
	for l := range c.NumLayers {
		for w, wanted := range targets {
			if wanted {
				out, in := c.linearShape(w)
				a, b := newLoRA(rng, lora.Rank, l, w, out, in)
				list = append(list, a, b)
			}
		}
	}
	return list, nil
}

func loraRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0x6c6f7261)) }

// newLoRA makes one adapter: A uniform in ±1/√in, B zero.
func newLoRA(rng *rand.Rand, rank, layer, which, out, in int) (a, b *Param) {
	path := "base_model.model." + linearPath(layer, which)
	a = newParam(path+".lora_A.weight", rank, in)
	b = newParam(path+".lora_B.weight", out, rank)
	bound := 1 / math.Sqrt(float64(in))
	for i := range a.Data {
		a.Data[i] = float32((2*rng.Float64() - 1) * bound)
	}
	return a, b
}
