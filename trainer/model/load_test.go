package model_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/model"
)

type rawTensor struct {
	dtype string
	shape []int
	data  []byte
}

// mapSource is a checkpoint in memory.
type mapSource map[string]rawTensor

func (s mapSource) Names() []string {
	var names []string
	for n := range s {
		names = append(names, n)
	}
	slices.Sort(names)
	return names
}

func (s mapSource) Tensor(name string) (string, []int, []byte, error) {
	t, ok := s[name]
	if !ok {
		return "", nil, nil, fmt.Errorf("no such tensor")
	}
	return t.dtype, t.shape, t.data, nil
}

func f32Tensor(shape []int, data []float32) rawTensor {
	var b []byte
	for _, v := range data {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
	}
	return rawTensor{"F32", shape, b}
}

// checkpoint makes a source whose values all three dtypes hold exactly: a few
// bits of mantissa, exponents around 2^-3.
func checkpoint(cfg model.Config, dtype string) mapSource {
	s := mapSource{}
	for i, spec := range cfg.Tensors() {
		var b []byte
		for j := range spec.Len() {
			v := float32((j*7+i*13)%29-14) / 64
			if len(spec.Shape) == 1 {
				v += 1
			}
			bits := math.Float32bits(v)
			switch dtype {
			case "F32":
				b = binary.LittleEndian.AppendUint32(b, bits)
			case "BF16":
				b = binary.LittleEndian.AppendUint16(b, uint16(bits>>16))
			case "F16":
				h := uint16(bits >> 31 << 15)
				if bits<<1 != 0 {
					h |= uint16((bits>>23&0xff)-112)<<10 | uint16(bits>>13&1023)
				}
				b = binary.LittleEndian.AppendUint16(b, h)
			}
		}
		s[spec.Name] = rawTensor{dtype, spec.Shape, b}
	}
	return s
}

func TestTheDtypeOfFrozenWeightsChangesNoBit(t *testing.T) {
	cfg := midsize()
	var want float64
	var wantGrads []float32
	for _, dtype := range []string{"F32", "BF16", "F16"} {
		m, err := model.Load(cfg, checkpoint(cfg, dtype))
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := m.Loss(rowsOf(500, 1, 30, 40))
		if err != nil {
			t.Fatal(err)
		}
		if want == 0 {
			want = got
		}
		if got != want || math.IsNaN(got) {
			t.Errorf("%s: loss %v, want %v", dtype, got, want)
		}
		if err := m.AddLoRA(model.LoRAConfig{Rank: 3, Alpha: 3, TargetModules: []string{"all-linear"}}, 1); err != nil {
			t.Fatal(err)
		}
		stir(m, 2)
		if _, _, err := m.LossAndGrad(rowsOf(500, 1, 30, 40)); err != nil {
			t.Fatal(err)
		}
		var grads []float32
		for _, p := range m.Params() {
			grads = append(grads, p.Grad...)
		}
		if wantGrads == nil {
			wantGrads = grads
		}
		if !slices.Equal(grads, wantGrads) {
			t.Errorf("%s: other gradients", dtype)
		}
	}
}

func TestLoadRefusesWhatDoesNotFitTheConfig(t *testing.T) {
	cfg := tiny(true)
	const q = "model.layers.1.self_attn.q_proj.weight"
	for name, c := range map[string]struct {
		change func(mapSource)
		says   string
	}{
		"missing": {func(s mapSource) { delete(s, q) }, q},
		"shape":   {func(s mapSource) { x := s[q]; x.shape = []int{20, 24}; s[q] = x }, "[20 24]"},
		"bytes":   {func(s mapSource) { x := s[q]; x.data = x.data[1:]; s[q] = x }, "bytes"},
		"dtype":   {func(s mapSource) { x := s[q]; x.dtype = "F64"; s[q] = x }, "F64"},
		"unknown": {func(s mapSource) { s["model.layers.2.mlp.up_proj.weight"] = s[q] }, "layers.2"},
		"bias":    {func(s mapSource) { s["model.layers.0.self_attn.q_proj.bias"] = s[q] }, "bias"},
	} {
		s := checkpoint(cfg, "BF16")
		c.change(s)
		if _, err := model.Load(cfg, s); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one that names %s", name, err, c.says)
		}
	}
	s := checkpoint(cfg, "BF16")
	s["lm_head.weight"] = s["model.embed_tokens.weight"] // what some tied checkpoints carry
	if _, err := model.Load(cfg, s); err != nil {
		t.Errorf("a redundant head was refused: %v", err)
	}
}

func TestBatchesThatMakeNoSenseAreRefused(t *testing.T) {
	m := lively(t, tiny(true), 1)
	if _, _, err := m.LossAndGrad(rowsOf(37, 1, 4)); err == nil {
		t.Error("a gradient without trainable tensors")
	}
	if err := m.AddLoRA(model.LoRAConfig{Rank: 1, Alpha: 1, TargetModules: []string{"q_proj"}}, 1); err != nil {
		t.Fatal(err)
	}
	if m.AddLoRA(model.LoRAConfig{Rank: 1, Alpha: 1, TargetModules: []string{"q_proj"}}, 1) == nil || m.TrainAll() == nil {
		t.Error("a second set of trainable tensors")
	}
	for name, s := range map[string]model.Sequence{
		"weights":  {Tokens: []int32{1, 2}, Weights: []float32{1}},
		"negative": {Tokens: []int32{1, -2}, Weights: []float32{1, 1}},
		"beyond":   {Tokens: []int32{1, 37}, Weights: []float32{1, 1}},
		"length":   {Tokens: make([]int32, 65), Weights: make([]float32, 65)},
	} {
		if _, _, err := m.LossAndGrad([]model.Sequence{s}); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for _, empty := range [][]model.Sequence{nil, {{}}, {{Tokens: []int32{1}, Weights: []float32{1}}}} {
		if sum, n, err := m.LossAndGrad(empty); sum != 0 || n != 0 || err != nil {
			t.Errorf("%v: %g, %d, %v", empty, sum, n, err)
		}
	}
	s := m.NewSession()
	if _, err := s.Append(nil); err == nil {
		t.Error("appended nothing")
	}
	if _, err := s.Append(make([]int32, 60)); err != nil {
		t.Error(err)
	}
	if _, err := s.Append(make([]int32, 5)); err == nil {
		t.Error("appended beyond the context")
	}
	if _, err := m.Logprobs([]int32{1, 2}, 0); err == nil {
		t.Error("scored the first token")
	}
	if got, err := m.Logprobs([]int32{1, 2}, 2); err != nil || len(got) != 0 {
		t.Errorf("nothing to score: %v, %v", got, err)
	}
}

// smolConfig is the config.json of HuggingFaceTB/SmolLM2-135M, by its facts.
const smolConfig = `{"architectures":["LlamaForCausalLM"],"attention_bias":false,"attention_dropout":0.0,
"bos_token_id":0,"eos_token_id":0,"hidden_act":"silu","hidden_size":576,"initializer_range":0.041666666666666664,
"intermediate_size":1536,"max_position_embeddings":8192,"model_type":"llama","num_attention_heads":9,
"num_hidden_layers":30,"num_key_value_heads":3,"pretraining_tp":1,"rms_norm_eps":1e-05,"rope_scaling":null,
"rope_theta":100000,"tie_word_embeddings":true,"torch_dtype":"bfloat16","use_cache":true,"vocab_size":49152}`

func TestAConfigReadsAndWritesAsHuggingFaceDoes(t *testing.T) {
	c, err := model.ParseConfig([]byte(smolConfig))
	if err != nil {
		t.Fatal(err)
	}
	if c.HeadDim != 64 || c.NumKVHeads != 3 || !c.TieWordEmbeddings || c.NumParams() != 134515008 || !slices.Equal(c.EOSTokenIDs, []int{0}) {
		t.Errorf("read %+v with %d parameters", c, c.NumParams())
	}
	data, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	again, err := model.ParseConfig(data)
	if err != nil || !reflect.DeepEqual(c, again) {
		t.Errorf("written and read again: %+v, %v", again, err)
	}
}

func TestRotaryParametersAreReadInBothSpellings(t *testing.T) {
	for change, want := range map[string]struct {
		theta float64
		kind  string
	}{
		`"rope_parameters":{"rope_type":"default","rope_theta":500000.0}`:                                                                          {500000, ""},
		`"rope_parameters":{"rope_theta":20000.0}`:                                                                                                 {20000, ""},
		`"rope_parameters":{"rope_type":"linear","factor":2.0,"rope_theta":500000.0}`:                                                              {500000, "linear"},
		`"rope_scaling":{"type":"linear","factor":2.0}`:                                                                                            {100000, "linear"},
		`"rope_scaling":{"rope_type":"llama3","factor":32.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192}`: {100000, "llama3"},
	} {
		c, err := model.ParseConfig([]byte(strings.TrimSuffix(smolConfig, "}") + "," + change + "}"))
		if err != nil {
			t.Errorf("%s: %v", change, err)
			continue
		}
		kind := ""
		if c.RopeScaling != nil {
			kind = c.RopeScaling.Kind
		}
		if c.RopeTheta != want.theta || kind != want.kind {
			t.Errorf("%s: theta %g, scaling %q", change, c.RopeTheta, kind)
		}
	}
}

func TestParseConfigRefusesWhatItWouldComputeWrongly(t *testing.T) {
	for change, says := range map[string]string{
		`"architectures":["GPT2LMHeadModel"]`:               "GPT2LMHeadModel",
		`"attention_bias":true`:                             "attention_bias",
		`"mlp_bias":true`:                                   "mlp_bias",
		`"hidden_act":"gelu"`:                               "gelu",
		`"num_key_value_heads":2`:                           "num_key_value_heads",
		`"head_dim":63`:                                     "head_dim",
		`"vocab_size":0`:                                    "vocab_size",
		`"hidden_size":1e9`:                                 "hidden_size",
		`"rms_norm_eps":0`:                                  "rms_norm_eps",
		`"rope_scaling":{"rope_type":"yarn","factor":4}`:    "yarn",
		`"rope_scaling":{"rope_type":"llama3","factor":8}`:  "llama3",
		`"rope_scaling":{"type":"dynamic","factor":2}`:      "dynamic",
		`"quantization_config":{"quant_method":"gptq"}`:     "quantization_config",
		`"partial_rotary_factor":0.5`:                       "partial_rotary_factor",
		`"rope_parameters":{"rope_type":"yarn","factor":4}`: "yarn",
		`"sliding_window":4096`:                             "sliding_window",
		`"rope_theta":0.5`:                                  "rope_theta",
	} {
		data := strings.TrimSuffix(smolConfig, "}") + "," + change + "}" // the last of two equal keys counts
		if _, err := model.ParseConfig([]byte(data)); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: error %v", change, err)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(smolConfig))
	f.Add([]byte(`{"architectures":["LlamaForCausalLM"],"eos_token_id":[1,2],"rope_scaling":{"type":"linear","factor":2}}`))
	for _, p := range published {
		f.Add([]byte(p.config))
	}
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := model.ParseConfig(data)
		if err != nil {
			return
		}
		out, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := model.ParseConfig(out); err != nil || !reflect.DeepEqual(c, again) {
			t.Fatalf("written and read again: %+v, %v", again, err)
		}
	})
}
