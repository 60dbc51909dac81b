package gguf

import (
	"fmt"
	"slices"
	"strings"
)

// family is an architecture: what it is called here and there, and in what it
// differs from Llama.
type family struct {
	hf, modelType string // in config.json
	name          string // in general.architecture, and before the keys
	act           string
	// permuted says that the rows of q and k stand in another order, see permutedRow.
	permuted bool
	biased   bool // q, k and v have biases
	norms    []normName
	// plusOne says that Hugging Face's norms multiply by 1 + weight; llama.cpp's files
	// have the sum.
	plusOne bool
	// windowed says that sliding_window holds for every layer, mixed that it holds for
	// those that layer_types says.
	windowed, mixed bool
}

// normName is one of a block's norms. ofHeads says that it covers one head.
type normName struct {
	name, source string
	ofHeads      bool
}

var (
	llamaNorms = []normName{{"attn_norm", "input_layernorm", false}, {"ffn_norm", "post_attention_layernorm", false}}
	headNorms  = []normName{{"attn_q_norm", "self_attn.q_norm", true}, {"attn_k_norm", "self_attn.k_norm", true}}
	gemmaNorms = []normName{
		{"attn_norm", "input_layernorm", false}, {"post_attention_norm", "post_attention_layernorm", false},
		{"ffn_norm", "pre_feedforward_layernorm", false}, {"post_ffw_norm", "post_feedforward_layernorm", false},
	}
)

// families lists what is imported and exported; of several for one name of
// llama.cpp, the first is what an import becomes. Names: llama.cpp's
// gguf-py/gguf/constants.py and tensor_mapping.py.
func families() []family {
	return []family{
		{hf: "LlamaForCausalLM", modelType: "llama", name: "llama", act: "silu", permuted: true, norms: llamaNorms},
		{hf: "MistralForCausalLM", modelType: "mistral", name: "llama", act: "silu", permuted: true, norms: llamaNorms, windowed: true},
		{hf: "Qwen2ForCausalLM", modelType: "qwen2", name: "qwen2", act: "silu", biased: true, norms: llamaNorms},
		{hf: "Qwen3ForCausalLM", modelType: "qwen3", name: "qwen3", act: "silu", norms: slices.Concat(llamaNorms, headNorms)},
		{hf: "Gemma3ForCausalLM", modelType: "gemma3_text", name: "gemma3", act: "gelu_pytorch_tanh",
			norms: slices.Concat(gemmaNorms, headNorms), plusOne: true, mixed: true},
	}
}

// familyOf finds the family by what names one in config.json.
func familyOf(architectures []string) (family, error) {
	var known []string
	for _, f := range families() {
		if slices.Equal(architectures, []string{f.hf}) {
			return f, nil
		}
		known = append(known, f.hf)
	}
	return family{}, fmt.Errorf("architectures %v cannot be exported, only %s", architectures, strings.Join(known, ", "))
}

// familyNamed finds the family by llama.cpp's name.
func familyNamed(name string) (family, error) {
	var known []string
	for _, f := range families() {
		if f.name == name {
			return f, nil
		}
		if !slices.Contains(known, f.name) {
			known = append(known, f.name)
		}
	}
	return family{}, fmt.Errorf("general.architecture is %q; imported are %s", name, strings.Join(known, ", "))
}

// Of Gemma 3 llama.cpp takes for granted what config.json spells out (llama-model.cpp,
// LLM_ARCH_GEMMA3): that every sixth layer sees all, and the rotary base of the others.
const (
	gemmaPattern    = 6
	gemmaLocalTheta = 10000
	gemma27BLayers  = 62
)

// Kinds of layers, as layer_types has them.
const (
	fullAttention    = "full_attention"
	slidingAttention = "sliding_attention"
)

// layerTypes is the pattern in which each period-th layer sees all.
func layerTypes(layers, period int) []string {
	out := make([]string, layers)
	for l := range out {
		out[l] = slidingAttention
		if (l+1)%period == 0 {
			out[l] = fullAttention
		}
	}
	return out
}

// gemmaScalar is the number by whose root llama.cpp divides Gemma 3's scores.
func (c modelConfig) gemmaScalar() float64 {
	if c.Layers == gemma27BLayers && c.Heads > 0 {
		return float64(c.HiddenSize) / float64(c.Heads)
	}
	return float64(c.HeadDim)
}
