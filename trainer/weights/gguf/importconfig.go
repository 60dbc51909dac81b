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

// config reads the hyperparameters and refuses what a LlamaForCausalLM has not.
func (m metadata) config() (modelConfig, error) {
	c := modelConfig{Architectures: []string{"LlamaForCausalLM"}, HiddenAct: "silu", RopeTheta: 10000}
	switch arch, _ := m.text("general.architecture"); {
	case arch == "":
		return c, fmt.Errorf("the file names no general.architecture")
	case arch != "llama":
		return c, fmt.Errorf("general.architecture is %q; only llama is imported", arch)
	}
	if kind, ok := m.text("general.type"); ok && kind != "model" {
		return c, fmt.Errorf("general.type is %q, not a model", kind)
	}
	if n, _ := m.integer("split.count"); n > 1 {
		return c, fmt.Errorf("the model is split into %d files; join them with llama-gguf-split --merge first", n)
	}
	if n, _ := m.integer("llama.expert_count"); n > 0 {
		return c, fmt.Errorf("a mixture of %d experts is not imported", n)
	}
	for key, to := range map[string]*int{
		"block_count": &c.Layers, "context_length": &c.MaxPositions, "embedding_length": &c.HiddenSize,
		"feed_forward_length": &c.IntermediateSize, "attention.head_count": &c.Heads,
	} {
		var ok bool
		if *to, ok = m.integer("llama." + key); !ok {
			return c, fmt.Errorf("llama.%s is missing or no single integer", key)
		}
	}
	var ok bool
	if c.RMSNormEps, ok = m.float("llama.attention.layer_norm_rms_epsilon"); !ok {
		return c, fmt.Errorf("llama.attention.layer_norm_rms_epsilon is missing")
	}
	if c.KVHeads = c.Heads; has(m, "llama.attention.head_count_kv") {
		if c.KVHeads, ok = m.integer("llama.attention.head_count_kv"); !ok {
			return c, fmt.Errorf("llama.attention.head_count_kv differs from layer to layer, which is not imported")
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
	if n, ok := m.integer("llama.attention.key_length"); ok {
		c.HeadDim = n
	}
	for _, key := range []string{"llama.attention.value_length", "llama.rope.dimension_count"} {
		if n, ok := m.integer(key); ok && n != c.HeadDim {
			return c, fmt.Errorf("%s is %d, but a head has %d dimensions", key, n, c.HeadDim)
		}
	}
	if v, ok := m.float("llama.rope.freq_base"); ok {
		c.RopeTheta = v
	}
	if n, ok := m.integer("llama.attention.sliding_window"); ok && n > 0 {
		c.SlidingWindow = &n
	}
	for _, key := range []string{"llama.logit_scale", "llama.residual_scale", "llama.embedding_scale", "llama.attention.scale"} {
		if v, ok := m.float(key); ok && v != 0 && v != 1 {
			return c, fmt.Errorf("%s is %g, which LlamaForCausalLM does not compute", key, v)
		}
	}
	if err := c.check(); err != nil { // before the scaling, which needs sound dimensions
		return c, err
	}
	var err error
	if c.RopeScaling, err = m.ropeScaling(c); err != nil {
		return c, err
	}
	return c, c.check()
}

func has(m metadata, key string) bool { _, ok := m.f.Value(key); return ok }

// ropeScaling finds which scaling the file has: "linear" stands in the metadata,
// "llama3" only as the tensor of the divisors that result from it.
func (m metadata) ropeScaling(c modelConfig) (*ropeConfig, error) {
	kind, _ := m.text("llama.rope.scaling.type")
	factor, _ := m.float("llama.rope.scaling.factor")
	if old, ok := m.float("llama.rope.scale_linear"); ok && kind == "" && old != 1 {
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
	return marshal(struct {
		Architectures    []string `json:"architectures"`
		ModelType        string   `json:"model_type"`
		HiddenAct        string   `json:"hidden_act"`
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
		AttentionBias    bool     `json:"attention_bias"`
		MLPBias          bool     `json:"mlp_bias"`
		Tied             bool     `json:"tie_word_embeddings"`
		BOS              any      `json:"bos_token_id"`
		EOS              any      `json:"eos_token_id"`
		Pad              any      `json:"pad_token_id"`
	}{
		c.Architectures, "llama", c.HiddenAct, map[string]string{weights.F32: "float32", weights.F16: "float16", weights.BF16: "bfloat16"}[dtype],
		c.HiddenSize, c.IntermediateSize, c.Layers, c.Heads, c.KVHeads, c.HeadDim, c.VocabSize, c.MaxPositions,
		c.RMSNormEps, c.RopeTheta, rope, false, false, c.Tied, orNull(v.bos), eos, orNull(v.pad),
	}, true)
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
