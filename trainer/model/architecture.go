package model

import (
	"fmt"
	"slices"
	"strings"
)

// architecture says in what a family of decoders differs from Llama. Everything
// else is one forward and one backward pass for all of them.
type architecture struct {
	name      string // in "architectures" of config.json
	modelType string
	act       string // of the gated MLP: "silu" or "gelu_pytorch_tanh"
	// biased are the linear layers that have one.
	biased [numLinears]bool
	// norms names each block's norms; "" where there is none.
	norms [numNorms]string
	// plusOne says that a norm multiplies by 1 + weight.
	plusOne bool
	// scaledEmbedding says that embeddings are multiplied by √hidden_size.
	scaledEmbedding bool
	// windowed says that sliding_window holds for every layer.
	windowed bool
	// mixed says that some layers see a window only, have a rotary base of their own
	// and no rotary scaling, and that scores are scaled by query_pre_attn_scalar.
	mixed bool
	// defaults are those of the family's configuration class in transformers, for
	// keys that a file may leave out.
	defaults Config
}

// Kinds of layers, as layer_types has them.
const (
	fullAttention    = "full_attention"
	slidingAttention = "sliding_attention"
)

// The norms of a decoder block, in the order of the forward pass.
const (
	attnNorm    = iota // before attention
	qNorm              // of each head's query, before its rotation
	kNorm              // of each head's key
	attnOutNorm        // of attention's output, before it is added
	mlpNorm            // before the MLP
	mlpOutNorm         // of the MLP's output, before it is added
	numNorms
)

var (
	llamaNorms = [numNorms]string{attnNorm: "input_layernorm", mlpNorm: "post_attention_layernorm"}
	qwen3Norms = [numNorms]string{attnNorm: "input_layernorm", qNorm: "self_attn.q_norm", kNorm: "self_attn.k_norm", mlpNorm: "post_attention_layernorm"}
	gemmaNorms = [numNorms]string{
		attnNorm: "input_layernorm", qNorm: "self_attn.q_norm", kNorm: "self_attn.k_norm", attnOutNorm: "post_attention_layernorm",
		mlpNorm: "pre_feedforward_layernorm", mlpOutNorm: "post_feedforward_layernorm",
	}
)

// architectures lists what the engine computes. Names and differences are those of
// transformers: models/{llama,mistral,qwen2,qwen3,gemma3}/modeling_*.py.
func architectures() []architecture {
	window := 4096
	return []architecture{
		{name: "LlamaForCausalLM", modelType: "llama", act: "silu", norms: llamaNorms,
			defaults: Config{RopeTheta: 10000, MaxPositions: 2048}},
		{name: "MistralForCausalLM", modelType: "mistral", act: "silu", norms: llamaNorms, windowed: true,
			defaults: Config{RopeTheta: 10000, MaxPositions: 131072, NumKVHeads: 8, SlidingWindow: &window}},
		{name: "Qwen2ForCausalLM", modelType: "qwen2", act: "silu", norms: llamaNorms,
			biased:   [numLinears]bool{qProj: true, kProj: true, vProj: true},
			defaults: Config{RopeTheta: 10000, MaxPositions: 32768, NumKVHeads: 32}},
		{name: "Qwen3ForCausalLM", modelType: "qwen3", act: "silu", norms: qwen3Norms,
			defaults: Config{RopeTheta: 10000, MaxPositions: 32768, NumKVHeads: 32, HeadDim: 128}},
		{name: "Gemma3ForCausalLM", modelType: "gemma3_text", act: "gelu_pytorch_tanh", norms: gemmaNorms,
			plusOne: true, scaledEmbedding: true, mixed: true,
			defaults: Config{RopeTheta: 1e6, MaxPositions: 131072, NumKVHeads: 4, HeadDim: 256, SlidingWindow: &window,
				RopeLocalTheta: 10000, QueryScalar: 256, TieWordEmbeddings: true}},
	}
}

// architectureOf finds what config.json names, or says what there is.
func architectureOf(names []string) (architecture, error) {
	var known []string
	for _, a := range architectures() {
		if slices.Equal(names, []string{a.name}) {
			return a, nil
		}
		known = append(known, a.name)
	}
	hint := ""
	if slices.Contains(names, "Gemma3ForConditionalGeneration") {
		hint = " (of Gemma 3 the models without images)"
	}
	return architecture{}, fmt.Errorf("model: architectures is [%s] in config.json, which is not supported; choose a model that has one of %s%s",
		strings.Join(names, ", "), strings.Join(known, ", "), hint)
}

// arch is the config's architecture; Validate has seen that there is one.
func (c Config) arch() architecture {
	a, _ := architectureOf(c.Architectures)
	return a
}

// window is how many keys a query of this layer sees; 0: all before it.
func (c Config) window(layer int) int {
	if c.SlidingWindow == nil || len(c.LayerTypes) > 0 && c.LayerTypes[layer] != slidingAttention {
		return 0
	}
	return *c.SlidingWindow
}

// local says whether a layer rotates with rope_local_base_freq.
func (c Config) local(layer int) bool {
	return len(c.LayerTypes) > 0 && c.LayerTypes[layer] == slidingAttention
}
