package gguf

import (
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"

	"github.com/tunemesh/tunemesh/trainer/weights"
)

// metadata reads typed values out of a file's.
type metadata struct{ f *File }

func (m metadata) text(key string) (string, bool) {
	v, _ := m.f.Value(key)
	s, ok := v.(string)
	return s, ok
}

// integer reads whichever integer type the file chose, and a list of equal ones as
// one (head_count_kv of some converters).
func (m metadata) integer(key string) (int, bool) {
	v, ok := m.f.Value(key)
	if !ok {
		return 0, false
	}
	var n int64
	switch v := v.(type) {
	case uint8:
		n = int64(v)
	case int8:
		n = int64(v)
	case uint16:
		n = int64(v)
	case int16:
		n = int64(v)
	case uint32:
		n = int64(v)
	case int32:
		n = int64(v)
	case int64:
		n = v
	case uint64:
		n = int64(min(v, math.MaxInt64))
	case []uint32:
		if len(v) == 0 || slices.Min(v) != slices.Max(v) {
			return 0, false
		}
		n = int64(v[0])
	case []int32:
		if len(v) == 0 || slices.Min(v) != slices.Max(v) {
			return 0, false
		}
		n = int64(v[0])
	default:
		return 0, false
	}
	return int(n), true
}

func (m metadata) float(key string) (float64, bool) {
	v, _ := m.f.Value(key)
	switch v := v.(type) {
	case float32: // 1e-5 shall not become 9.99999974e-06
		f, err := strconv.ParseFloat(strconv.FormatFloat(float64(v), 'g', -1, 32), 64)
		return f, err == nil
	case float64:
		return v, true
	}
	return 0, false
}

func (m metadata) boolean(key string, byDefault bool) bool {
	v, _ := m.f.Value(key)
	if b, ok := v.(bool); ok {
		return b
	}
	return byDefault
}

// family says which architecture the file is of, and refuses what is no model of one.
func (m metadata) family() (family, error) {
	arch, _ := m.text("general.architecture")
	if arch == "" {
		return family{}, fmt.Errorf("the file names no general.architecture")
	}
	f, err := familyNamed(arch)
	if err != nil {
		return f, err
	}
	if kind, ok := m.text("general.type"); ok && kind != "model" {
		return f, fmt.Errorf("general.type is %q, not a model", kind)
	}
	if n, _ := m.integer(arch + ".expert_count"); n > 0 {
		return f, fmt.Errorf("a mixture of %d experts is not imported", n)
	}
	return f, nil
}

// split refuses a part of a model.
func (m metadata) split() error {
	if n, _ := m.integer("split.count"); n > 1 {
		return fmt.Errorf("the model is split into %d files; join them with llama-gguf-split --merge first", n)
	}
	return nil
}

// config reads the hyperparameters and refuses what the architecture has not at
// Hugging Face.
func (m metadata) config() (modelConfig, error) {
	var c modelConfig
	f, err := m.family()
	if err != nil {
		return c, err
	}
	c = modelConfig{Architectures: []string{f.hf}, HiddenAct: f.act, RopeTheta: 10000, family: f}
	arch := f.name + "."
	for key, to := range map[string]*int{
		"block_count": &c.Layers, "context_length": &c.MaxPositions, "embedding_length": &c.HiddenSize,
		"feed_forward_length": &c.IntermediateSize, "attention.head_count": &c.Heads,
	} {
		var ok bool
		if *to, ok = m.integer(arch + key); !ok {
			return c, fmt.Errorf("%s%s is missing or no single integer", arch, key)
		}
	}
	var ok bool
	if c.RMSNormEps, ok = m.float(arch + "attention.layer_norm_rms_epsilon"); !ok {
		return c, fmt.Errorf("%sattention.layer_norm_rms_epsilon is missing", arch)
	}
	if c.KVHeads = c.Heads; has(m, arch+"attention.head_count_kv") {
		if c.KVHeads, ok = m.integer(arch + "attention.head_count_kv"); !ok {
			return c, fmt.Errorf("%sattention.head_count_kv differs from layer to layer, which is not imported", arch)
		}
	}
	embed, ok := m.f.Tensor(embedTensor)
	if !ok || len(embed.Shape) != 2 {
		return c, fmt.Errorf("tensor %s is missing or no matrix: a file of the vocabulary only?", embedTensor)
	}
	c.VocabSize = embed.Shape[0]
	_, untied := m.f.Tensor(headTensor)
	c.Tied = !untied
	if c.Heads > 0 {
		c.HeadDim = c.HiddenSize / c.Heads
	}
	if n, ok := m.integer(arch + "attention.key_length"); ok {
		c.HeadDim = n
	}
	for _, key := range []string{arch + "attention.value_length", arch + "rope.dimension_count"} {
		if n, ok := m.integer(key); ok && n != c.HeadDim {
			return c, fmt.Errorf("%s is %d, but a head has %d dimensions", key, n, c.HeadDim)
		}
	}
	if v, ok := m.float(arch + "rope.freq_base"); ok {
		c.RopeTheta = v
	}
	if n, ok := m.integer(arch + "attention.sliding_window"); ok && n > 0 {
		c.SlidingWindow = &n
	}
	for _, key := range []string{arch + "logit_scale", arch + "residual_scale", arch + "embedding_scale", arch + "attention.scale"} {
		if v, ok := m.float(key); ok && v != 0 && v != 1 {
			return c, fmt.Errorf("%s is %g, which %s does not compute", key, v, f.hf)
		}
	}
	if f.mixed {
		if err := m.mixedLayers(&c); err != nil {
			return c, err
		}
	}
	if err := c.check(); err != nil { // before the scaling, which needs sound dimensions
		return c, err
	}
	if c.RopeScaling, err = m.ropeScaling(c); err != nil {
		return c, err
	}
	return c, c.check()
}

// mixedLayers fills in what of Gemma 3 llama.cpp's file says, or llama.cpp assumes.
func (m metadata) mixedLayers(c *modelConfig) error {
	arch := c.family.name + "."
	c.RopeLocalTheta, c.QueryScalar = gemmaLocalTheta, c.gemmaScalar()
	if v, ok := m.float(arch + "rope.freq_base_swa"); ok {
		c.RopeLocalTheta = v
	}
	if v, ok := m.float(arch + "final_logit_softcapping"); ok && v != 0 {
		return fmt.Errorf("%sfinal_logit_softcapping is %g, which is not imported", arch, v)
	}
	if !has(m, arch+"rope.freq_base") {
		return fmt.Errorf("%srope.freq_base is missing", arch)
	}
	period := gemmaPattern
	if key := arch + "attention.sliding_window_pattern"; has(m, key) {
		var ok bool
		if period, ok = m.integer(key); !ok || period < 1 {
			return fmt.Errorf("%s is no positive integer, which is not imported", key)
		}
	}
	if c.Layers > 0 && c.Layers < 1<<12 {
		c.LayerTypes = layerTypes(c.Layers, period)
	}
	return nil
}

func has(m metadata, key string) bool { _, ok := m.f.Value(key); return ok }

// ropeScaling finds which scaling the file has: "linear" stands in the metadata,
// "llama3" only as the tensor of the divisors that result from it.
func (m metadata) ropeScaling(c modelConfig) (*ropeConfig, error) {
	arch := c.family.name + "."
	kind, _ := m.text(arch + "rope.scaling.type")
	factor, _ := m.float(arch + "rope.scaling.factor")
	if old, ok := m.float(arch + "rope.scale_linear"); ok && kind == "" && old != 1 {
		kind, factor = "linear", old
	}
	_, table := m.f.Tensor(ropeTensor)
	switch {
	case kind != "" && kind != "none" && kind != "linear":
		return nil, fmt.Errorf("rope scaling %q is not imported, only linear and llama3", kind)
	case kind == "linear" && table:
		return nil, fmt.Errorf("rope scaling is linear and a table at once, which is not imported")
	case kind == "linear":
		return &ropeConfig{Type: "linear", Factor: factor}, nil
	case !table:
		return nil, nil
	}
	rows, err := m.f.Rows(ropeTensor)
	if err != nil {
		return nil, err
	}
	if rows.Count*rows.Width != c.HeadDim/2 {
		return nil, fmt.Errorf("tensor %s has %d values, want %d", ropeTensor, rows.Count*rows.Width, c.HeadDim/2)
	}
	have := make([]float32, c.HeadDim/2)
	if err := rows.Read(have, 0); err != nil {
		return nil, err
	}
	if slices.Min(have) == 1 && slices.Max(have) == 1 {
		return nil, nil
	}
	// All models with this scaling use the frequency factors 1 and 4; the original
	// context is a power of two.
	for original := 16; original <= 1<<22 && slices.Max(have) > 1; original *= 2 {
		r := &ropeConfig{Type: "llama3", Factor: float64(slices.Max(have)), LowFreqFactor: 1, HighFreqFactor: 4, OriginalMax: original}
		try := c
		try.RopeScaling = r
		same := true
		for i, f := range try.ropeFactors() {
			same = same && math.Abs(float64(f-have[i])) <= 1e-5*float64(f)
		}
		if same && (original == 8192 || !sameFactors(try, 8192)) {
			return r, nil
		}
	}
	return nil, fmt.Errorf("the divisors in tensor %s are not those of rope scaling llama3, and no other is imported", ropeTensor)
}

// sameFactors says whether an original context of n gives c's divisors too: then it
// is preferred, for n is the one that Llama 3 has.
func sameFactors(c modelConfig, n int) bool {
	other := *c.RopeScaling
	other.OriginalMax = n
	with := c
	with.RopeScaling = &other
	return slices.Equal(c.ropeFactors(), with.ropeFactors())
}

// json is the config.json.
func (c modelConfig) json(v vocabulary, dtype string) ([]byte, error) {
	ends := []int32{}
	for _, id := range []int32{v.eos, v.eot} {
		if id >= 0 && !slices.Contains(ends, id) {
			ends = append(ends, id)
		}
	}
	var eos any
	switch len(ends) {
	case 0:
	case 1:
		eos = ends[0]
	default:
		eos = ends
	}
	type scaling struct {
		Type           string  `json:"rope_type"`
		Factor         float64 `json:"factor"`
		LowFreqFactor  float64 `json:"low_freq_factor,omitempty"`
		HighFreqFactor float64 `json:"high_freq_factor,omitempty"`
		OriginalMax    int     `json:"original_max_position_embeddings,omitempty"`
	}
	var rope *scaling
	if r := c.RopeScaling; r != nil {
		rope = &scaling{r.Type, r.Factor, r.LowFreqFactor, r.HighFreqFactor, r.OriginalMax}
	}
	out := struct {
		Architectures    []string `json:"architectures"`
		ModelType        string   `json:"model_type"`
		HiddenAct        string   `json:"hidden_act,omitempty"`
		HiddenActivation string   `json:"hidden_activation,omitempty"`
		TorchDType       string   `json:"torch_dtype"`
		HiddenSize       int      `json:"hidden_size"`
		IntermediateSize int      `json:"intermediate_size"`
		Layers           int      `json:"num_hidden_layers"`
		Heads            int      `json:"num_attention_heads"`
		KVHeads          int      `json:"num_key_value_heads"`
		HeadDim          int      `json:"head_dim"`
		VocabSize        int      `json:"vocab_size"`
		MaxPositions     int      `json:"max_position_embeddings"`
		RMSNormEps       float64  `json:"rms_norm_eps"`
		RopeTheta        float64  `json:"rope_theta"`
		RopeScaling      *scaling `json:"rope_scaling"`
		SlidingWindow    *int     `json:"sliding_window,omitempty"`
		LayerTypes       []string `json:"layer_types,omitempty"`
		RopeLocalTheta   float64  `json:"rope_local_base_freq,omitempty"`
		QueryScalar      float64  `json:"query_pre_attn_scalar,omitempty"`
		AttentionBias    bool     `json:"attention_bias"`
		MLPBias          *bool    `json:"mlp_bias,omitempty"`
		Tied             bool     `json:"tie_word_embeddings"`
		BOS              any      `json:"bos_token_id"`
		EOS              any      `json:"eos_token_id"`
		Pad              any      `json:"pad_token_id"`
	}{
		Architectures: c.Architectures, ModelType: c.family.modelType, HiddenAct: c.HiddenAct,
		TorchDType: map[string]string{weights.F32: "float32", weights.F16: "float16", weights.BF16: "bfloat16"}[dtype],
		HiddenSize: c.HiddenSize, IntermediateSize: c.IntermediateSize, Layers: c.Layers, Heads: c.Heads, KVHeads: c.KVHeads,
		HeadDim: c.HeadDim, VocabSize: c.VocabSize, MaxPositions: c.MaxPositions, RMSNormEps: c.RMSNormEps,
		RopeTheta: c.RopeTheta, RopeScaling: rope, SlidingWindow: c.SlidingWindow, LayerTypes: c.LayerTypes,
		RopeLocalTheta: c.RopeLocalTheta, QueryScalar: c.QueryScalar, Tied: c.Tied,
		BOS: orNull(v.bos), EOS: eos, Pad: orNull(v.pad),
	}
	switch {
	case c.family.mixed: // which has another name for it
		out.HiddenAct, out.HiddenActivation = "", c.HiddenAct
	case c.family.modelType == "llama":
		out.MLPBias = new(bool)
	}
	return marshal(out, true)
}

// orNull is an id, or null where there is none.
func orNull(id int32) any {
	if id < 0 {
		return nil
	}
	return id
}

// marshal leaves <, > and & as they are: special tokens are full of them.
func marshal(v any, indent bool) ([]byte, error) {
	var b jsonBuffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if indent {
		enc.SetIndent("", "  ")
	}
	err := enc.Encode(v)
	return b, err
}

type jsonBuffer []byte

func (b *jsonBuffer) Write(p []byte) (int, error) { *b = append(*b, p...); return len(p), nil }
