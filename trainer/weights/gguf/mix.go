package gguf

import (
	"fmt"
	"strconv"
	"strings"
)

// mix says which format each tensor of a file gets.
type mix struct {
	base     Type   // of matrices
	fileType uint32 // general.file_type (llama_ftype)
	k        bool   // Q4_K_M: some matrices get more bits
	layers   int
	tied     bool // no matrix of its own for the output
}

// mixes are those of Options.Type.
var mixes = map[string]mix{
	"": {base: F16, fileType: 1}, "F16": {base: F16, fileType: 1}, "F32": {base: F32, fileType: 0}, "BF16": {base: BF16, fileType: 32},
	"Q8_0": {base: Q8_0, fileType: 7}, "Q4_K_M": {base: Q4_K, fileType: 15, k: true},
}

func (o Options) mix(layers int, tied bool) (mix, error) {
	m, ok := mixes[o.Type]
	if !ok {
		return mix{}, fmt.Errorf("type %q is not written; there are F16, BF16, F32, Q8_0 and Q4_K_M", o.Type)
	}
	m.layers, m.tied = layers, tied
	return m, nil
}

// typeOf gives one tensor's format. Vectors stay in F32, as llama.cpp needs them. The
// rest are llama.cpp's choices (llama_tensor_get_type in llama-quant.cpp) for models
// without experts: Q4_K_M gives Q6_K to the matrix that makes the logits, and to
// attn_v and ffn_down in the layers that profit most. A matrix whose rows do not fill
// blocks of 256 falls back to a format with blocks of 32 and about as many bits, and
// from there to F16.
func (m mix) typeOf(name string, shape []int) Type {
	if len(shape) < 2 {
		return F32
	}
	t, cols := m.base, int64(shape[len(shape)-1])
	if m.k {
		output := name == "output.weight" || m.tied && name == "token_embd.weight"
		switch layer, part := layerOf(name); {
		case output && cols%256 != 0:
			t = Q8_0
		case output, (part == "attn_v.weight" || part == "ffn_down.weight") && moreBits(layer, m.layers):
			t = Q6_K
		}
	}
	return fallback(t, cols)
}

// fallback is tensor_type_fallback of llama-quant.cpp.
func fallback(t Type, cols int64) Type {
	fits := func(t Type) bool { _, elems, _, _ := t.layout(); return cols%elems == 0 }
	if !fits(t) {
		switch t {
		case Q4_K:
			t = Q5_0
		case Q6_K:
			t = Q8_0
		}
	}
	if !fits(t) {
		return F16
	}
	return t
}

// moreBits picks the first and the last eighth of the layers and every third between
// (use_more_bits).
func moreBits(layer, layers int) bool {
	return layer < layers/8 || layer >= 7*layers/8 || (layer-layers/8)%3 == 2
}

// layerOf cuts "blk.3.attn_v.weight" into its layer and the rest.
func layerOf(name string) (int, string) {
	rest, ok := strings.CutPrefix(name, "blk.")
	number, part, found := strings.Cut(rest, ".")
	layer, err := strconv.Atoi(number)
	if !ok || !found || err != nil {
		return 0, name
	}
	return layer, part
}

// Types counts the formats of the matrices in a file, by name: what a fallback did.
func (f *File) Types() map[string]int {
	out := map[string]int{}
	for _, t := range f.Tensors() {
		if len(t.Shape) > 1 {
			out[t.Type.String()]++
		}
	}
	return out
}
