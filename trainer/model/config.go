package model

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
)

// architecture is the one that this engine computes.
const architecture = "LlamaForCausalLM"

// Config describes a Llama-shaped decoder. The JSON names are those of a
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

// ParseConfig reads a config.json. It refuses every model that this engine
// would not compute exactly, and says which property stands in the way.
func ParseConfig(data []byte) (Config, error) {
	// Defaults of transformers' LlamaConfig for keys that a file may leave out.
	c := Config{ModelType: "llama", HiddenAct: "silu", RMSNormEps: 1e-6, RopeTheta: 10000, MaxPositions: 2048}
	if err := json.Unmarshal(data, &c); err != nil {
		return Config{}, fmt.Errorf("model: config.json: %w", err)
	}
	var extra struct {
		AttentionBias bool            `json:"attention_bias"`
		MLPBias       bool            `json:"mlp_bias"`
		Quantization  json.RawMessage `json:"quantization_config"`
		SlidingWindow *int            `json:"sliding_window"`
		Partial       *float64        `json:"partial_rotary_factor"`
		RopeScaling   *struct {
			Type string `json:"type"` // the older spelling of rope_type
		} `json:"rope_scaling"`
		// transformers 5 writes base and scaling of the rotary embedding here.
		RopeParameters *struct {
			RopeScaling
			Theta *float64 `json:"rope_theta"`
		} `json:"rope_parameters"`
		DType string `json:"dtype"`
	}
	if err := json.Unmarshal(data, &extra); err != nil {
		return Config{}, fmt.Errorf("model: config.json: %w", err)
	}
	if !slices.Equal(c.Architectures, []string{architecture}) {
		return Config{}, fmt.Errorf("model: architectures is [%s]: the native engine computes LlamaForCausalLM only; use the engine peft for this model", strings.Join(c.Architectures, ", "))
	}
	var missing []string
	if extra.AttentionBias {
		missing = append(missing, "attention_bias")
	}
	if extra.MLPBias {
		missing = append(missing, "mlp_bias")
	}
	if len(extra.Quantization) > 0 && string(extra.Quantization) != "null" {
		missing = append(missing, "quantization_config")
	}
	if extra.SlidingWindow != nil {
		missing = append(missing, "sliding_window")
	}
	if extra.Partial != nil && *extra.Partial != 1 {
		missing = append(missing, "partial_rotary_factor")
	}
	if len(missing) > 0 {
		return Config{}, fmt.Errorf("model: config.json asks for %s, which the native engine does not compute; use the engine peft for this model", strings.Join(missing, ", "))
	}
	if p := extra.RopeParameters; p != nil {
		if p.Theta != nil {
			c.RopeTheta = *p.Theta
		}
		c.RopeScaling = &p.RopeScaling
		if c.RopeScaling.Kind == "" {
			c.RopeScaling.Kind = "default"
		}
	}
	if c.TorchDType == "" {
		c.TorchDType = extra.DType
	}
	if c.RopeScaling != nil && c.RopeScaling.Kind == "" && extra.RopeScaling != nil {
		c.RopeScaling.Kind = extra.RopeScaling.Type
	}
	if c.RopeScaling != nil && c.RopeScaling.Kind == "default" {
		c.RopeScaling = nil
	}
	if c.NumKVHeads == 0 {
		c.NumKVHeads = c.NumHeads
	}
	if c.HeadDim == 0 && c.NumHeads > 0 {
		c.HeadDim = c.HiddenSize / c.NumHeads
	}
	return c, c.Validate()
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
			return fmt.Errorf("model: config.json: %s = %d, must be in 1..%d", f.name, f.val, f.max)
		}
	}
	switch {
	case !slices.Equal(c.Architectures, []string{architecture}):
		return fmt.Errorf("model: architectures is %v, must be [%s]: other programs choose their code by it", c.Architectures, architecture)
	case c.HiddenAct != "silu":
		return fmt.Errorf("model: hidden_act %q is not computed by the native engine, only silu", c.HiddenAct)
	case c.NumHeads%c.NumKVHeads != 0:
		return fmt.Errorf("model: num_attention_heads (%d) is no multiple of num_key_value_heads (%d)", c.NumHeads, c.NumKVHeads)
	case c.HeadDim%2 != 0:
		return fmt.Errorf("model: head_dim %d is odd; rotary embeddings need pairs", c.HeadDim)
	case !(c.RMSNormEps > 0 && c.RMSNormEps < 1):
		return fmt.Errorf("model: rms_norm_eps = %g, must be in (0, 1)", c.RMSNormEps)
	case !(c.RopeTheta > 1) || math.IsInf(c.RopeTheta, 0):
		return fmt.Errorf("model: rope_theta = %g, must be above 1", c.RopeTheta)
	}
	return c.RopeScaling.validate()
}

func (r *RopeScaling) validate() error {
	if r == nil {
		return nil
	}
	if r.Kind != "linear" && r.Kind != "llama3" {
		return fmt.Errorf("model: rope_scaling %q is not computed by the native engine, only linear and llama3", r.Kind)
	}
	if !(r.Factor >= 1) || math.IsInf(r.Factor, 0) {
		return fmt.Errorf("model: rope_scaling.factor = %g, must be at least 1", r.Factor)
	}
	if r.Kind == "llama3" && !(r.OriginalMaxPositions > 0 && r.LowFreqFactor > 0 && r.HighFreqFactor > r.LowFreqFactor) {
		return fmt.Errorf("model: rope_scaling llama3 needs original_max_position_embeddings and low_freq_factor < high_freq_factor")
	}
	return nil
}

// inverseFrequencies returns head_dim/2 rotary frequencies in radians per
// position.
func (c Config) inverseFrequencies() []float64 {
	f := make([]float64, c.HeadDim/2)
	for i := range f {
		f[i] = math.Pow(c.RopeTheta, -2*float64(i)/float64(c.HeadDim))
	}
	r := c.RopeScaling
	if r == nil {
		return f
	}
	for i, v := range f {
		if r.Kind == "linear" {
			f[i] = v / r.Factor
			continue
		}
		// llama3: short wavelengths stay, long ones are stretched, those between
		// are blended.
		turns := float64(r.OriginalMaxPositions) * v / (2 * math.Pi)
		switch {
		case turns > r.HighFreqFactor:
		case turns < r.LowFreqFactor:
			f[i] = v / r.Factor
		default:
			s := (turns - r.LowFreqFactor) / (r.HighFreqFactor - r.LowFreqFactor)
			f[i] = (1-s)*v/r.Factor + s*v
		}
	}
	return f
}
