package model

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/jsonfault"
)

// extraConfig is what config.json may say beside a Config's own keys.
type extraConfig struct {
	HiddenActivation string          `json:"hidden_activation"` // Gemma's name of hidden_act
	AttentionBias    bool            `json:"attention_bias"`
	MLPBias          bool            `json:"mlp_bias"`
	Quantization     json.RawMessage `json:"quantization_config"`
	MLX              json.RawMessage `json:"quantization"` // the same of MLX
	Partial          *float64        `json:"partial_rotary_factor"`
	RopeScaling      *struct {
		Type string `json:"type"` // the older spelling of rope_type
	} `json:"rope_scaling"`
	RopeParameters json.RawMessage `json:"rope_parameters"`
	DType          string          `json:"dtype"`

	UseSlidingWindow bool `json:"use_sliding_window"`
	MaxWindowLayers  *int `json:"max_window_layers"`
	Pattern          *int `json:"sliding_window_pattern"`
	OldPattern       *int `json:"_sliding_window_pattern"`

	AttentionSoftcap *float64 `json:"attn_logit_softcapping"`
	FinalSoftcap     *float64 `json:"final_logit_softcapping"`
	Bidirectional    bool     `json:"use_bidirectional_attention"`
}

// ropeParameters is how transformers 5 writes base and scaling of a rotary
// embedding.
type ropeParameters struct {
	RopeScaling
	Theta *float64 `json:"rope_theta"`
}

// ParseConfig reads a config.json. It refuses every model that this engine
// would not compute exactly, and says which property stands in the way.
func ParseConfig(data []byte) (Config, error) {
	var named struct {
		Architectures []string `json:"architectures"`
	}
	if err := json.Unmarshal(data, &named); err != nil {
		return Config{}, fmt.Errorf("model: config.json: %w", jsonfault.Explain(data, err))
	}
	a, err := architectureOf(named.Architectures)
	if err != nil {
		return Config{}, err
	}
	c := a.defaults
	c.ModelType, c.RMSNormEps = a.modelType, 1e-6
	if c.SlidingWindow != nil { // the default is not to be written to
		window := *c.SlidingWindow
		c.SlidingWindow = &window
	}
	var extra extraConfig
	for _, to := range []any{&c, &extra} {
		if err := json.Unmarshal(data, to); err != nil {
			return Config{}, fmt.Errorf("model: config.json: %w", jsonfault.Explain(data, err))
		}
	}
	if missing := extra.missing(a, c); len(missing) > 0 {
		what := chooseAnother
		if slices.Contains(missing, quantized) || slices.Contains(missing, quantizedMLX) {
			what = "choose the original model, whose weights are not quantized, or a GGUF file of it"
		}
		return Config{}, fmt.Errorf("model: config.json asks for %s, which is not supported for %s; %s", strings.Join(missing, ", "), a.name, what)
	}
	if c.HiddenAct == "" {
		c.HiddenAct = a.act
	}
	if extra.HiddenActivation != "" {
		c.HiddenAct = extra.HiddenActivation
	}
	if c.TorchDType == "" {
		c.TorchDType = extra.DType
	}
	if c.RopeScaling != nil && c.RopeScaling.Kind == "" && extra.RopeScaling != nil {
		c.RopeScaling.Kind = extra.RopeScaling.Type
	}
	if err := c.setRope(extra.RopeParameters, a); err != nil {
		return Config{}, err
	}
	if c.RopeScaling != nil && c.RopeScaling.Kind == "default" {
		c.RopeScaling = nil
	}
	c.setLayers(a, extra)
	if c.NumKVHeads == 0 {
		c.NumKVHeads = c.NumHeads
	}
	if c.HeadDim == 0 && c.NumHeads > 0 {
		c.HeadDim = c.HiddenSize / c.NumHeads
	}
	return c, c.Validate()
}

// The keys of a model whose numbers are packed: as GPTQ and AWQ do, and as MLX does.
const (
	quantized    = "quantization_config"
	quantizedMLX = "quantization"
)

// missing lists properties that change what a model computes and are not
// computed here.
func (x extraConfig) missing(a architecture, c Config) (list []string) {
	for _, p := range []struct {
		name string
		set  bool
	}{
		{"attention_bias", x.AttentionBias},
		{"mlp_bias", x.MLPBias},
		{quantized, len(x.Quantization) > 0 && string(x.Quantization) != "null"},
		{quantizedMLX, len(x.MLX) > 0 && string(x.MLX) != "null"},
		{"partial_rotary_factor", x.Partial != nil && *x.Partial != 1},
		{"sliding_window", c.SlidingWindow != nil && a.modelType == "llama"},
		{"use_sliding_window", x.UseSlidingWindow && !a.windowed && !a.mixed &&
			c.SlidingWindow != nil && *c.SlidingWindow < c.MaxPositions && (x.MaxWindowLayers == nil || *x.MaxWindowLayers < c.NumLayers)},
		{"layer_types", !a.mixed && slices.ContainsFunc(c.LayerTypes, func(kind string) bool { return kind != fullAttention })},
		{"attn_logit_softcapping", x.AttentionSoftcap != nil},
		{"final_logit_softcapping", x.FinalSoftcap != nil},
		{"use_bidirectional_attention", x.Bidirectional},
	} {
		if p.set {
			list = append(list, p.name)
		}
	}
	return list
}

// setRope takes base and scaling from rope_parameters, if the file has them: of a
// model with layers of two kinds, one for each kind.
func (c *Config) setRope(raw json.RawMessage, a architecture) error {
	if len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	var one ropeParameters
	var kinds struct {
		Full    *ropeParameters `json:"full_attention"`
		Sliding *ropeParameters `json:"sliding_attention"`
	}
	for _, to := range []any{&one, &kinds} {
		if err := json.Unmarshal(raw, to); err != nil {
			return fmt.Errorf("model: config.json: rope_parameters: %w", jsonfault.Explain(nil, err))
		}
	}
	if p := kinds.Sliding; p != nil && a.mixed {
		if p.Kind != "" && p.Kind != "default" {
			return unsupported("rope_parameters of sliding_attention scaled by %q are not supported", p.Kind)
		}
		if p.Theta != nil {
			c.RopeLocalTheta = *p.Theta
		}
	}
	if kinds.Full != nil {
		one = *kinds.Full
	}
	if one.Theta != nil {
		c.RopeTheta = *one.Theta
	}
	c.RopeScaling = &one.RopeScaling
	if one.Kind == "" {
		c.RopeScaling.Kind = "default"
	}
	return nil
}

// setLayers writes out each layer's kind where they differ, and forgets a window
// where none is looked through.
func (c *Config) setLayers(a architecture, x extraConfig) {
	if !a.mixed {
		c.LayerTypes = nil // all are full_attention, or missing has refused it
		if !a.windowed {
			c.SlidingWindow = nil
		}
		return
	}
	if len(c.LayerTypes) > 0 || c.NumLayers < 1 || c.NumLayers > 1<<10 {
		return
	}
	pattern := 6
	for _, p := range []*int{x.OldPattern, x.Pattern} {
		if p != nil && *p > 0 {
			pattern = *p
		}
	}
	c.LayerTypes = make([]string, c.NumLayers)
	for l := range c.LayerTypes {
		c.LayerTypes[l] = slidingAttention
		if (l+1)%pattern == 0 {
			c.LayerTypes[l] = fullAttention
		}
	}
}
