package model

import (
	"encoding/json"
	"fmt"
	"math"
)

// Config describes a decoder. The JSON names are those of a
// Hugging Face config.json, so that a marshalled Config is one.
type Config struct {
	Architectures []string `json:"architectures"`
	ModelType     string   `json:"model_type"`
	HiddenAct     string   `json:"hidden_act"`
	TorchDType    string   `json:"torch_dtype,omitempty"`

	HiddenSize       int     `json:"hidden_size"`
	IntermediateSize int     `json:"intermediate_size"`
	NumLayers        int     `json:"num_hidden_layers"`
	NumHeads         int     `json:"num_attention_heads"`
	NumKVHeads       int     `json:"num_key_value_heads"`
	HeadDim          int     `json:"head_dim"`
	VocabSize        int     `json:"vocab_size"`
	MaxPositions     int     `json:"max_position_embeddings"`
	RMSNormEps       float64 `json:"rms_norm_eps"`
	RopeTheta        float64 `json:"rope_theta"`
	// RopeScaling is nil, or one of the kinds "linear" and "llama3".
	RopeScaling       *RopeScaling `json:"rope_scaling"`
	TieWordEmbeddings bool         `json:"tie_word_embeddings"`
	BOSTokenID        *int         `json:"bos_token_id"`
	EOSTokenIDs       TokenIDs     `json:"eos_token_id"`

	// SlidingWindow is how many tokens a layer looks back, its own included; nil
	// where every layer sees all. Of Mistral it holds for all layers.
	SlidingWindow *int `json:"sliding_window"`

	// The rest is Gemma 3's: each layer's kind, "full_attention" or
	// "sliding_attention"; the rotary base of the latter, which are not scaled; and
	// the number by whose root attention scores are divided.
	LayerTypes     []string `json:"layer_types,omitempty"`
	RopeLocalTheta float64  `json:"rope_local_base_freq,omitempty"`
	QueryScalar    float64  `json:"query_pre_attn_scalar,omitempty"`
}

// RopeScaling stretches the rotary frequencies for contexts longer than those
// the model was trained with. See transformers/modeling_rope_utils.py.
type RopeScaling struct {
	Kind                 string  `json:"rope_type"`
	Factor               float64 `json:"factor"`
	LowFreqFactor        float64 `json:"low_freq_factor,omitempty"`
	HighFreqFactor       float64 `json:"high_freq_factor,omitempty"`
	OriginalMaxPositions int     `json:"original_max_position_embeddings,omitempty"`
}

// TokenIDs is a list of token ids that config.json may also write as one number
// or null.
type TokenIDs []int

// UnmarshalJSON accepts a number, a list of numbers or null.
func (t *TokenIDs) UnmarshalJSON(data []byte) error {
	var one *int
	if json.Unmarshal(data, &one) == nil {
		*t = nil
		if one != nil {
			*t = TokenIDs{*one}
		}
		return nil
	}
	var many []int
	if err := json.Unmarshal(data, &many); err != nil {
		return err
	}
	*t = nil
	if len(many) > 0 {
		*t = many
	}
	return nil
}

// MarshalJSON writes a single id as a number, as most models do.
func (t TokenIDs) MarshalJSON() ([]byte, error) {
	switch len(t) {
	case 0:
		return []byte("null"), nil
	case 1:
		return json.Marshal(t[0])
	}
	return json.Marshal([]int(t))
}

const chooseAnother = "choose another model"

// unsupported is a property of a sound model that is not computed here, by no engine.
func unsupported(format string, args ...any) error {
	return fmt.Errorf("model: config.json: "+format+"; "+chooseAnother, args...)
}

// faulty is a number that makes no model.
func faulty(format string, args ...any) error {
	return fmt.Errorf("model: config.json: "+format+"; correct the file or fetch it again", args...)
}

// Validate says which number makes no model, or which property the engine does
// not compute.
func (c Config) Validate() error {
	for _, f := range []struct {
		name     string
		val, max int
	}{
		// The upper bounds keep sizes from a hostile file inside an int.
		{"hidden_size", c.HiddenSize, 1 << 17}, {"intermediate_size", c.IntermediateSize, 1 << 19},
		{"num_hidden_layers", c.NumLayers, 1 << 10}, {"num_attention_heads", c.NumHeads, 1 << 10},
		{"num_key_value_heads", c.NumKVHeads, 1 << 10}, {"head_dim", c.HeadDim, 1 << 10},
		{"vocab_size", c.VocabSize, 1 << 22}, {"max_position_embeddings", c.MaxPositions, 1 << 24},
	} {
		if f.val < 1 || f.val > f.max {
			return faulty("%s = %d, must be in 1..%d", f.name, f.val, f.max)
		}
	}
	a, err := architectureOf(c.Architectures)
	if err != nil {
		return err
	}
	switch {
	case c.HiddenAct != a.act:
		return unsupported("hidden_act %q is not supported for %s, only %s", c.HiddenAct, a.name, a.act)
	case c.NumHeads%c.NumKVHeads != 0:
		return faulty("num_attention_heads (%d) is no multiple of num_key_value_heads (%d)", c.NumHeads, c.NumKVHeads)
	case c.HeadDim%2 != 0:
		return faulty("head_dim %d is odd; rotary embeddings need pairs", c.HeadDim)
	case !(c.RMSNormEps > 0 && c.RMSNormEps < 1):
		return faulty("rms_norm_eps = %g, must be in (0, 1)", c.RMSNormEps)
	case !(c.RopeTheta > 1) || math.IsInf(c.RopeTheta, 0):
		return faulty("rope_theta = %g, must be above 1", c.RopeTheta)
	}
	if err := c.validateLayers(a); err != nil {
		return err
	}
	return c.RopeScaling.validate()
}

// validateLayers checks what layers differ in.
func (c Config) validateLayers(a architecture) error {
	switch {
	case c.SlidingWindow != nil && !a.windowed && !a.mixed:
		return unsupported("sliding_window is not supported for %s", a.name)
	case c.SlidingWindow != nil && (*c.SlidingWindow < 1 || *c.SlidingWindow > 1<<24):
		return faulty("sliding_window = %d, must be in 1..%d", *c.SlidingWindow, 1<<24)
	case !a.mixed && (len(c.LayerTypes) > 0 || c.RopeLocalTheta != 0 || c.QueryScalar != 0):
		return unsupported("layer_types, rope_local_base_freq and query_pre_attn_scalar are not supported for %s", a.name)
	case !a.mixed:
		return nil
	case len(c.LayerTypes) != c.NumLayers:
		return faulty("layer_types has %d entries for %d layers", len(c.LayerTypes), c.NumLayers)
	case !(c.RopeLocalTheta > 1) || math.IsInf(c.RopeLocalTheta, 0):
		return faulty("rope_local_base_freq = %g, must be above 1", c.RopeLocalTheta)
	case !(c.QueryScalar > 0) || math.IsInf(c.QueryScalar, 0):
		return faulty("query_pre_attn_scalar = %g, must be positive", c.QueryScalar)
	}
	for l, kind := range c.LayerTypes {
		if kind != fullAttention && kind != slidingAttention {
			return unsupported("layer_types[%d] is %q; only %s and %s are supported", l, kind, fullAttention, slidingAttention)
		}
		if kind == slidingAttention && c.SlidingWindow == nil {
			return faulty("layer %d looks through a window, but sliding_window is null", l)
		}
	}
	return nil
}

func (r *RopeScaling) validate() error {
	if r == nil {
		return nil
	}
	if r.Kind != "linear" && r.Kind != "llama3" {
		return unsupported("rope_scaling %q is not supported, only linear and llama3", r.Kind)
	}
	if !(r.Factor >= 1) || math.IsInf(r.Factor, 0) {
		return faulty("rope_scaling.factor = %g, must be at least 1", r.Factor)
	}
	if r.Kind == "llama3" && !(r.OriginalMaxPositions > 0 && r.LowFreqFactor > 0 && r.HighFreqFactor > r.LowFreqFactor) {
		return faulty("rope_scaling llama3 needs original_max_position_embeddings and low_freq_factor < high_freq_factor")
	}
	return nil
}
