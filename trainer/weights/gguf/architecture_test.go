package gguf_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

func (c config) with(changes config) config {
	out := maps.Clone(c)
	maps.Copy(out, changes)
	return out
}

// families is the small model in every other architecture, with the tensors that it
// then has.
func families() map[string]struct {
	config config
	shapes map[string][]int
} {
	more := func(names map[string][]int) map[string][]int {
		out := shapes()
		for name, shape := range names {
			out["model.layers.0."+name+".weight"] = shape
		}
		return out
	}
	biased := shapes()
	for name, n := range map[string]int{"q": 8, "k": 4, "v": 4} {
		biased["model.layers.0.self_attn."+name+"_proj.bias"] = []int{n}
	}
	heads := map[string][]int{"self_attn.q_norm": {4}, "self_attn.k_norm": {4}}
	gemma := maps.Clone(heads)
	gemma["pre_feedforward_layernorm"], gemma["post_feedforward_layernorm"] = []int{8}, []int{8}
	type family = struct {
		config config
		shapes map[string][]int
	}
	return map[string]family{
		"mistral": {small().with(config{"architectures": []string{"MistralForCausalLM"}, "sliding_window": 16}), shapes()},
		"qwen2":   {small().with(config{"architectures": []string{"Qwen2ForCausalLM"}, "model_type": "qwen2", "sliding_window": 16}), biased},
		"qwen3":   {small().with(config{"architectures": []string{"Qwen3ForCausalLM"}, "model_type": "qwen3"}), more(heads)},
		"gemma3": {small().with(config{"architectures": []string{"Gemma3ForCausalLM"}, "hidden_activation": "gelu_pytorch_tanh",
			"sliding_window": 16, "rope_theta": 1e6, "query_pre_attn_scalar": 4}), more(gemma)},
	}
}

// Each architecture has the names, keys and orders of rows that llama.cpp has for it.
func TestFamiliesHaveTheirNames(t *testing.T) {
	for name, want := range map[string]struct {
		arch, key string
		value     any
		tensors   []string
		permuted  bool
	}{
		"mistral": {"llama", "llama.context_length", uint32(16), nil, true}, // within its window it is a Llama
		"qwen2":   {"qwen2", "qwen2.context_length", uint32(64), []string{"blk.0.attn_q.bias", "blk.0.attn_k.bias", "blk.0.attn_v.bias"}, false},
		"qwen3":   {"qwen3", "qwen3.attention.key_length", uint32(4), []string{"blk.0.attn_q_norm.weight", "blk.0.attn_k_norm.weight"}, false},
		"gemma3": {"gemma3", "gemma3.attention.sliding_window", uint32(16), []string{"blk.0.attn_q_norm.weight", "blk.0.attn_k_norm.weight",
			"blk.0.post_attention_norm.weight", "blk.0.post_ffw_norm.weight"}, false},
	} {
		c := families()[name]
		f := export(t, folder(t, c.config, c.shapes, index), gguf.Options{Type: "F32"})
		if arch, _ := f.Value("general.architecture"); arch != want.arch {
			t.Errorf("%s: architecture %v", name, arch)
		}
		if got, _ := f.Value(want.key); got != want.value {
			t.Errorf("%s: %s is %v, want %v", name, want.key, got, want.value)
		}
		for _, tensor := range want.tensors {
			if _, ok := f.Tensor(tensor); !ok {
				t.Errorf("%s lacks %s", name, tensor)
			}
		}
		if n := len(shapes()) + len(want.tensors); len(f.Tensors()) != n {
			t.Errorf("%s: %d tensors, want %d", name, len(f.Tensors()), n)
		}
		// The second row of a head of 4: the third in a permuted file (j and j+dim/2).
		row := values(t, f, "blk.0.attn_q.weight", 8)[8]
		if want.permuted != (row == 16) || !want.permuted && row != 8 {
			t.Errorf("%s: the second row of q begins with element %g", name, row)
		}
		norm := float32(0)
		if name == "gemma3" {
			norm = 1
		}
		for _, tensor := range []string{"blk.0.attn_norm.weight", "output_norm.weight"} {
			if got := values(t, f, tensor, 1); got[0] != norm || got[7] != norm+7 {
				t.Errorf("%s: %s is %v", name, tensor, got)
			}
		}
	}
}

// values reads rows of a tensor.
func values(t *testing.T, f *gguf.File, name string, rows int) []float32 {
	t.Helper()
	r, err := f.Rows(name)
	if err != nil {
		t.Fatal(err)
	}
	out := make([]float32, rows*r.Width)
	if err := r.Read(out, 0); err != nil {
		t.Fatal(err)
	}
	return out
}

// What llama.cpp takes for granted of an architecture, and a model has otherwise, is
// refused.
func TestFamiliesRefuse(t *testing.T) {
	for _, c := range []struct {
		name, says string
		change     config
	}{
		{"mistral", "sliding_window is 0", config{"sliding_window": 0}},
		{"qwen2", "sliding_window of 16", config{"use_sliding_window": true}},
		{"qwen3", "llama3 cannot be exported", config{"rope_scaling": config{"rope_type": "llama3", "factor": 8, "low_freq_factor": 1,
			"high_freq_factor": 4, "original_max_position_embeddings": 32}}},
		{"gemma3", "layer_types", config{"sliding_window_pattern": 1}},
		{"gemma3", "layer_types", config{"layer_types": []string{"full_attention"}}},
		{"gemma3", "rope_local_base_freq", config{"rope_local_base_freq": 5000}},
		{"gemma3", "rope_local_base_freq", config{"rope_parameters": config{"sliding_attention": config{"rope_theta": 5000}}}},
		{"gemma3", "query_pre_attn_scalar", config{"query_pre_attn_scalar": 5}},
		{"gemma3", "softcapping", config{"final_logit_softcapping": 30}},
		{"gemma3", "sliding_window is missing", config{"sliding_window": nil}},
		{"gemma3", "silu", config{"hidden_activation": "silu"}},
	} {
		f := families()[c.name]
		err := gguf.Exportable(folder(t, f.config.with(c.change), f.shapes, index))
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s with %v: %v, want %q", c.name, c.change, err, c.says)
		}
	}
	for name, f := range families() {
		for tensor := range f.shapes {
			less := maps.Clone(f.shapes)
			delete(less, tensor)
			if err := gguf.Exportable(folder(t, f.config, less, index)); err == nil || !strings.Contains(err.Error(), tensor+" is missing") {
				t.Errorf("%s without %s: %v", name, tensor, err)
			}
		}
	}
}

// No config.json makes the check fail otherwise than by an error.
func FuzzExportable(f *testing.F) {
	for _, c := range []string{
		`{"architectures":["Gemma3ForCausalLM"],"hidden_size":8,"intermediate_size":16,"num_hidden_layers":62,"num_attention_heads":0,"vocab_size":500}`,
		`{"architectures":["Qwen3ForCausalLM"],"rope_parameters":{"full_attention":{"rope_type":"linear"},"sliding_attention":null}}`,
		`{"architectures":["MistralForCausalLM"],"sliding_window":-1,"layer_types":[]}`, `null`, `[]`,
	} {
		f.Add([]byte(c))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "config.json"), data, 0o644); err != nil {
			t.Fatal(err)
		}
		if gguf.Exportable(dir) == nil { // for there is no tokenizer
			t.Error("a folder without weights can be exported")
		}
	})
}
