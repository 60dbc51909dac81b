package gguf

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
)

// llamaConfig is what an export needs of config.json.
type llamaConfig struct {
	Architectures    []string    `json:"architectures"`
	HiddenAct        string      `json:"hidden_act"`
	HiddenSize       int         `json:"hidden_size"`
	IntermediateSize int         `json:"intermediate_size"`
	Layers           int         `json:"num_hidden_layers"`
	Heads            int         `json:"num_attention_heads"`
	KVHeads          int         `json:"num_key_value_heads"`
	HeadDim          int         `json:"head_dim"`
	VocabSize        int         `json:"vocab_size"`
	MaxPositions     int         `json:"max_position_embeddings"`
	RMSNormEps       float64     `json:"rms_norm_eps"`
	RopeTheta        float64     `json:"rope_theta"`
	RopeScaling      *ropeConfig `json:"rope_scaling"`
	RopeParameters   *ropeConfig `json:"rope_parameters"` // since transformers 5 for both of the above
	Tied             bool        `json:"tie_word_embeddings"`
	SlidingWindow    *int        `json:"sliding_window"`
	Quantization     any         `json:"quantization_config"`
	BOS              idList      `json:"bos_token_id"`
	EOS              idList      `json:"eos_token_id"`
	Pad              idList      `json:"pad_token_id"`
}

type ropeConfig struct {
	Type           string  `json:"rope_type"`
	OldType        string  `json:"type"`
	Theta          float64 `json:"rope_theta"`
	Factor         float64 `json:"factor"`
	LowFreqFactor  float64 `json:"low_freq_factor"`
	HighFreqFactor float64 `json:"high_freq_factor"`
	OriginalMax    int     `json:"original_max_position_embeddings"`
}

// idList is a token id or a list of them; nil if there is none.
type idList []int32

func (l *idList) UnmarshalJSON(data []byte) error {
	var one int32
	if err := json.Unmarshal(data, &one); err == nil && string(data) != "null" {
		*l = idList{one}
		return nil
	}
	return json.Unmarshal(data, (*[]int32)(l))
}

func readConfig(dir string) (llamaConfig, error) {
	// Defaults of transformers' LlamaConfig for keys that a file may leave out.
	c := llamaConfig{HiddenAct: "silu", RMSNormEps: 1e-6, RopeTheta: 10000, MaxPositions: 2048}
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, fmt.Errorf("config.json: %w", err)
	}
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if c.HeadDim == 0 && c.Heads > 0 {
		c.HeadDim = c.HiddenSize / c.Heads
	}
	if r := c.RopeParameters; r != nil {
		if r.Theta > 0 {
			c.RopeTheta = r.Theta
		}
		if c.RopeScaling == nil {
			c.RopeScaling = r
		}
	}
	if r := c.RopeScaling; r != nil {
		if r.Type == "" {
			r.Type = r.OldType
		}
		if r.Type == "default" || r.Type == "" {
			c.RopeScaling = nil
		}
	}
	if err := c.check(); err != nil {
		return c, fmt.Errorf("config.json: %w", err)
	}
	return c, nil
}

// check refuses what llama.cpp's architecture "llama" would compute differently:
// a file that loads and answers wrongly is worse than none.
func (c llamaConfig) check() error {
	switch {
	case !slices.Equal(c.Architectures, []string{"LlamaForCausalLM"}) && !slices.Equal(c.Architectures, []string{"MistralForCausalLM"}):
		return fmt.Errorf("architectures %v cannot be exported, only LlamaForCausalLM and MistralForCausalLM", c.Architectures)
	case c.HiddenAct != "silu":
		return fmt.Errorf("hidden_act %q cannot be exported, only silu", c.HiddenAct)
	case c.SlidingWindow != nil && *c.SlidingWindow > 0 && *c.SlidingWindow < c.MaxPositions:
		return fmt.Errorf("a sliding_window of %d cannot be exported", *c.SlidingWindow)
	case c.Quantization != nil:
		return fmt.Errorf("the weights are quantized (quantization_config); export from the original ones")
	}
	for _, n := range []struct {
		name string
		val  int
	}{
		{"hidden_size", c.HiddenSize}, {"intermediate_size", c.IntermediateSize}, {"num_hidden_layers", c.Layers},
		{"num_attention_heads", c.Heads}, {"num_key_value_heads", c.KVHeads}, {"head_dim", c.HeadDim},
		{"vocab_size", c.VocabSize}, {"max_position_embeddings", c.MaxPositions},
	} {
		if n.val < 1 || n.val > 1<<24 {
			return fmt.Errorf("%s is %d", n.name, n.val)
		}
	}
	if c.Layers > 1<<12 || c.HeadDim%2 != 0 || c.Heads%c.KVHeads != 0 {
		return fmt.Errorf("%d layers, %d heads over %d of dimension %d make no model", c.Layers, c.Heads, c.KVHeads, c.HeadDim)
	}
	if !(c.RMSNormEps > 0 && c.RMSNormEps < 1) || !(c.RopeTheta > 1) || math.IsInf(c.RopeTheta, 0) {
		return fmt.Errorf("rms_norm_eps %g or rope_theta %g make no model", c.RMSNormEps, c.RopeTheta)
	}
	if r := c.RopeScaling; r != nil {
		switch {
		case r.Type != "linear" && r.Type != "llama3":
			return fmt.Errorf("rope_scaling %q cannot be exported, only linear and llama3", r.Type)
		case !(r.Factor >= 1) || math.IsInf(r.Factor, 0):
			return fmt.Errorf("rope_scaling: factor is %g", r.Factor)
		case r.Type == "llama3" && !(r.OriginalMax > 0 && r.LowFreqFactor > 0 && r.HighFreqFactor > r.LowFreqFactor):
			return fmt.Errorf("rope_scaling llama3 needs original_max_position_embeddings and low_freq_factor < high_freq_factor")
		}
	}
	return nil
}

// metadata is the hyperparameters under llama.cpp's keys.
func (c llamaConfig) metadata() []KV {
	kvs := []KV{
		{"llama.vocab_size", uint32(c.VocabSize)},
		{"llama.context_length", uint32(c.MaxPositions)},
		{"llama.embedding_length", uint32(c.HiddenSize)},
		{"llama.block_count", uint32(c.Layers)},
		{"llama.feed_forward_length", uint32(c.IntermediateSize)},
		{"llama.attention.head_count", uint32(c.Heads)},
		{"llama.attention.head_count_kv", uint32(c.KVHeads)},
		{"llama.attention.key_length", uint32(c.HeadDim)},
		{"llama.attention.value_length", uint32(c.HeadDim)},
		{"llama.attention.layer_norm_rms_epsilon", float32(c.RMSNormEps)},
		{"llama.rope.dimension_count", uint32(c.HeadDim)},
		{"llama.rope.freq_base", float32(c.RopeTheta)},
	}
	if c.RopeScaling != nil && c.RopeScaling.Type == "linear" {
		kvs = append(kvs, KV{"llama.rope.scaling.type", "linear"}, KV{"llama.rope.scaling.factor", float32(c.RopeScaling.Factor)})
	}
	return kvs
}

// ropeFactors are the divisors of the rotary frequencies for scaling of type
// llama3, as the tensor rope_freqs.weight [head_dim/2] has them; else nil.
func (c llamaConfig) ropeFactors() []float32 {
	r := c.RopeScaling
	if r == nil || r.Type != "llama3" {
		return nil
	}
	out := make([]float32, c.HeadDim/2)
	for i := range out {
		freq := math.Pow(c.RopeTheta, -2*float64(i)/float64(c.HeadDim))
		turns := float64(r.OriginalMax) * freq / (2 * math.Pi) // within the original context
		switch {
		case turns > r.HighFreqFactor:
			out[i] = 1
		case turns < r.LowFreqFactor:
			out[i] = float32(r.Factor)
		default:
			s := (turns - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
			out[i] = float32(1 / ((1-s)/r.Factor + s))
		}
	}
	return out
}
