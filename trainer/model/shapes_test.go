package model_test

import (
	"fmt"

	"github.com/tunemesh/tunemesh/trainer/model"
)

// demoShape is about the bundled base model; smolShape is SmolLM2-135M's.
func demoShape() model.Config {
	c := tiny(true)
	c.HiddenSize, c.IntermediateSize, c.NumLayers, c.NumHeads, c.NumKVHeads, c.HeadDim = 192, 512, 6, 6, 3, 32
	c.VocabSize, c.MaxPositions = 4096, 512
	return c
}

func smolShape() model.Config {
	c := tiny(true)
	c.HiddenSize, c.IntermediateSize, c.NumLayers, c.NumHeads, c.NumKVHeads, c.HeadDim = 576, 1536, 30, 9, 3, 64
	c.VocabSize, c.MaxPositions, c.RopeTheta = 49152, 8192, 100000
	return c
}

// bf16Source serves random weights as a BF16 checkpoint.
type bf16Source struct{ cfg model.Config }

func (s bf16Source) Names() []string {
	var names []string
	for _, t := range s.cfg.Tensors() {
		names = append(names, t.Name)
	}
	return names
}

func (s bf16Source) Tensor(name string) (string, []int, []byte, error) {
	for _, spec := range s.cfg.Tensors() {
		if spec.Name != name {
			continue
		}
		data := make([]byte, 2*spec.Len())
		state := uint32(len(name))
		for i := range spec.Len() {
			state = state*1664525 + 1013904223
			// sign and fraction random, exponent 2^-6: values around ±0.02
			data[2*i], data[2*i+1] = byte(state>>24), byte(0x3c|state>>16&0x80)
		}
		return "BF16", spec.Shape, data, nil
	}
	return "", nil, nil, fmt.Errorf("no tensor %s", name)
}
