package gguf

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// modelConfig is what an export needs of config.json, and what an import makes of a
// file's metadata.
type modelConfig struct {
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
	RopeParameters   *ropeKinds  `json:"rope_parameters"` // since transformers 5 for both of the above
	Tied             bool        `json:"tie_word_embeddings"`
	SlidingWindow    *int        `json:"sliding_window"`
	Quantization     any         `json:"quantization_config"`
	BOS              idList      `json:"bos_token_id"`
	EOS              idList      `json:"eos_token_id"`
	Pad              idList      `json:"pad_token_id"`

	// Of Qwen: whether the window is used, and how many layers come before it is.
	UseSlidingWindow bool `json:"use_sliding_window"`
	MaxWindowLayers  *int `json:"max_window_layers"`

	// Of Gemma 3.
	HiddenActivation string   `json:"hidden_activation"`
	LayerTypes       []string `json:"layer_types"`
	Pattern          int      `json:"sliding_window_pattern"`
	RopeLocalTheta   float64  `json:"rope_local_base_freq"`
	QueryScalar      float64  `json:"query_pre_attn_scalar"`
	AttentionSoftcap *float64 `json:"attn_logit_softcapping"`
	FinalSoftcap     *float64 `json:"final_logit_softcapping"`

	family family
}

// ropeKinds is one rotary embedding, or one for each kind of layer.
type ropeKinds struct {
	ropeConfig
	Full    *ropeConfig `json:"full_attention"`
	Sliding *ropeConfig `json:"sliding_attention"`
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

func readConfig(dir string) (modelConfig, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
	if err != nil {
		return modelConfig{}, err
	}
	c, err := parseConfig(raw)
	if err != nil {
		return c, fmt.Errorf("config.json: %w", err)
	}
	return c, nil
}

func parseConfig(raw []byte) (c modelConfig, err error) {
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, err
	}
	f, err := familyOf(c.Architectures)
	if err != nil {
		return c, err
	}
	// Defaults of transformers' classes for keys that a file may leave out.
	c = modelConfig{HiddenAct: f.act, RMSNormEps: 1e-6, RopeTheta: 10000, MaxPositions: 2048, family: f}
	if f.mixed {
		window := 4096
		c.RopeTheta, c.MaxPositions, c.HeadDim, c.KVHeads, c.Tied = 1e6, 131072, 256, 4, true
		c.RopeLocalTheta, c.QueryScalar, c.Pattern, c.SlidingWindow = 10000, 256, gemmaPattern, &window
	}
	if f.modelType == "qwen3" {
		c.HeadDim = 128
	}
	if err := json.Unmarshal(raw, &c); err != nil {
		return c, err
	}
	if c.HiddenActivation != "" {
		c.HiddenAct = c.HiddenActivation
	}
	if c.KVHeads == 0 {
		c.KVHeads = c.Heads
	}
	if c.HeadDim == 0 && c.Heads > 0 {
		c.HeadDim = c.HiddenSize / c.Heads
	}
	if r := c.RopeParameters; r != nil {
		one := &r.ropeConfig
		if r.Full != nil {
			one = r.Full
		}
		if one.Theta > 0 {
			c.RopeTheta = one.Theta
		}
		if c.RopeScaling == nil {
			c.RopeScaling = one
		}
		if r.Sliding != nil && r.Sliding.Theta > 0 {
			c.RopeLocalTheta = r.Sliding.Theta
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
	if f.mixed && len(c.LayerTypes) == 0 && c.Layers > 0 && c.Layers < 1<<12 && c.Pattern > 0 {
		c.LayerTypes = layerTypes(c.Layers, c.Pattern)
	}
	return c, c.check()
}

// check refuses what llama.cpp's architecture would compute differently: a file that
// loads and answers wrongly is worse than none.
func (c modelConfig) check() error {
	switch {
	case c.HiddenAct != c.family.act:
		return fmt.Errorf("hidden_act %q cannot be exported, only %s", c.HiddenAct, c.family.act)
	case c.Quantization != nil:
		return fmt.Errorf("the weights are quantized (quantization_config); export from the original ones")
	case c.AttentionSoftcap != nil || c.FinalSoftcap != nil:
		return fmt.Errorf("attn_logit_softcapping and final_logit_softcapping cannot be exported")
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
	if err := c.checkLayers(); err != nil {
		return err
	}
	if r := c.RopeScaling; r != nil {
		switch {
		case r.Type == "llama3" && c.family.name != "llama":
			return fmt.Errorf("rope_scaling llama3 cannot be exported for %s", c.family.hf)
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

// checkLayers refuses windows, and differences between layers, that llama.cpp does
// not compute. Mistral's window is left out: within it, which is what the file's
// context is set to, there is no difference.
func (c modelConfig) checkLayers() error {
	f, w := c.family, c.SlidingWindow
	switch {
	case w != nil && *w < 1:
		return fmt.Errorf("sliding_window is %d", *w)
	case f.mixed && !slices.Equal(c.LayerTypes, layerTypes(c.Layers, gemmaPattern)) && w != nil:
		return fmt.Errorf("layer_types cannot be exported: llama.cpp computes a window in all layers but every %dth", gemmaPattern)
	case f.mixed && w == nil:
		return fmt.Errorf("sliding_window is missing")
	case f.mixed && c.RopeLocalTheta != gemmaLocalTheta:
		return fmt.Errorf("rope_local_base_freq %g cannot be exported, only %d", c.RopeLocalTheta, gemmaLocalTheta)
	case f.mixed && c.QueryScalar != c.gemmaScalar():
		return fmt.Errorf("query_pre_attn_scalar %g cannot be exported: llama.cpp computes with %g", c.QueryScalar, c.gemmaScalar())
	case f.mixed || f.windowed || w == nil || *w >= c.MaxPositions:
		return nil
	case strings.HasPrefix(f.modelType, "qwen") && (!c.UseSlidingWindow || c.MaxWindowLayers != nil && *c.MaxWindowLayers >= c.Layers):
		return nil
	}
	return fmt.Errorf("a sliding_window of %d cannot be exported", *w)
}

// metadata is the hyperparameters under llama.cpp's keys.
func (c modelConfig) metadata() []KV {
	context := c.MaxPositions
	if c.family.windowed && c.SlidingWindow != nil {
		context = min(context, *c.SlidingWindow)
	}
	kvs := []KV{
		{"vocab_size", uint32(c.VocabSize)},
		{"context_length", uint32(context)},
		{"embedding_length", uint32(c.HiddenSize)},
		{"block_count", uint32(c.Layers)},
		{"feed_forward_length", uint32(c.IntermediateSize)},
		{"attention.head_count", uint32(c.Heads)},
		{"attention.head_count_kv", uint32(c.KVHeads)},
		{"attention.key_length", uint32(c.HeadDim)},
		{"attention.value_length", uint32(c.HeadDim)},
		{"attention.layer_norm_rms_epsilon", float32(c.RMSNormEps)},
		{"rope.dimension_count", uint32(c.HeadDim)},
		{"rope.freq_base", float32(c.RopeTheta)},
	}
	if c.RopeScaling != nil && c.RopeScaling.Type == "linear" {
		kvs = append(kvs, KV{"rope.scaling.type", "linear"}, KV{"rope.scaling.factor", float32(c.RopeScaling.Factor)})
	}
	if c.family.mixed {
		kvs = append(kvs, KV{"attention.sliding_window", uint32(*c.SlidingWindow)})
	}
	for i := range kvs {
		kvs[i].Key = c.family.name + "." + kvs[i].Key
	}
	return kvs
}

// ropeFactors are the divisors of the rotary frequencies for scaling of type
// llama3, as the tensor rope_freqs.weight [head_dim/2] has them; else nil.
func (c modelConfig) ropeFactors() []float32 {
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
