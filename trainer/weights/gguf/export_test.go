package gguf_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

const vocab = 500 // of the tokenizer in the tokenizer's testdata

type config map[string]any

// small has the names and shapes of a Llama of one layer: 2 heads of 4 over 1.
func small() config {
	return config{
		"architectures": []string{"LlamaForCausalLM"}, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1,
		"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4, "vocab_size": vocab, "max_position_embeddings": 64,
		"rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true, "eos_token_id": []int{2, 0},
	}
}

func shapes() map[string][]int {
	return map[string][]int{
		"model.embed_tokens.weight":                      {vocab, 8},
		"model.layers.0.input_layernorm.weight":          {8},
		"model.layers.0.self_attn.q_proj.weight":         {8, 8},
		"model.layers.0.self_attn.k_proj.weight":         {4, 8},
		"model.layers.0.self_attn.v_proj.weight":         {4, 8},
		"model.layers.0.self_attn.o_proj.weight":         {8, 8},
		"model.layers.0.mlp.gate_proj.weight":            {16, 8},
		"model.layers.0.mlp.up_proj.weight":              {16, 8},
		"model.layers.0.mlp.down_proj.weight":            {8, 16},
		"model.layers.0.post_attention_layernorm.weight": {8},
		"model.norm.weight":                              {8},
	}
}

// folder writes a model in which the value of an element is its index in its
// tensor.
func folder(t testing.TB, c config, shapes map[string][]int, value func(i int) float32) string {
	t.Helper()
	dir := t.TempDir()
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := os.ReadFile("../../tokenizer/testdata/gpt2.tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	for name, b := range map[string][]byte{"config.json": raw, "tokenizer.json": tok, "tokenizer_config.json": []byte(`{"eos_token":"<|im_end|>","chat_template":"{{ x }}"}`)} {
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	var tensors []weights.Tensor
	for name, shape := range shapes {
		info := weights.TensorInfo{Name: name, DType: "F32", Shape: shape}
		n, err := info.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 0, n)
		for i := range int(n / 4) {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(value(i)))
		}
		tensors = append(tensors, weights.Tensor{TensorInfo: info, Data: b})
	}
	if err := weights.WriteFile(filepath.Join(dir, weights.SingleName), tensors, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

func index(i int) float32 { return float32(i) }

func export(t *testing.T, dir string, opts gguf.Options) *gguf.File {
	t.Helper()
	out := filepath.Join(t.TempDir(), "m.gguf")
	if err := gguf.Export(context.Background(), dir, out, opts); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func TestExportNamesAndMetadata(t *testing.T) {
	f := export(t, folder(t, small(), shapes(), index), gguf.Options{Name: "small"})
	want := []string{
		"token_embd.weight F16 [500 8]", "blk.0.attn_norm.weight F32 [8]", "blk.0.attn_q.weight F16 [8 8]", "blk.0.attn_k.weight F16 [4 8]",
		"blk.0.attn_v.weight F16 [4 8]", "blk.0.attn_output.weight F16 [8 8]", "blk.0.ffn_gate.weight F16 [16 8]", "blk.0.ffn_up.weight F16 [16 8]",
		"blk.0.ffn_down.weight F16 [8 16]", "blk.0.ffn_norm.weight F32 [8]", "output_norm.weight F32 [8]",
	}
	var got []string
	for _, info := range f.Tensors() {
		got = append(got, fmt.Sprintf("%s %s %v", info.Name, info.Type, info.Shape))
	}
	if !slices.Equal(got, want) {
		t.Errorf("tensors\n got %q\nwant %q", got, want)
	}
	tok, err := tokenizer.Load("../../tokenizer/testdata/gpt2.tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	types := make([]int32, vocab)
	for i := range types {
		types[i] = 1
		if i < 3 {
			types[i] = 3
		}
	}
	for key, want := range map[string]any{
		"general.architecture": "llama", "general.name": "small", "general.file_type": uint32(1),
		"llama.block_count": uint32(1), "llama.context_length": uint32(64), "llama.embedding_length": uint32(8), "llama.feed_forward_length": uint32(16),
		"llama.attention.head_count": uint32(2), "llama.attention.head_count_kv": uint32(1), "llama.attention.layer_norm_rms_epsilon": float32(1e-5),
		"llama.rope.dimension_count": uint32(4), "llama.rope.freq_base": float32(10000), "llama.vocab_size": uint32(vocab),
		"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2", "tokenizer.ggml.tokens": tok.Vocab(), "tokenizer.ggml.token_type": types,
		"tokenizer.ggml.eos_token_id": uint32(2), "tokenizer.ggml.add_bos_token": false, "tokenizer.chat_template": "{{ x }}",
	} {
		if got, ok := f.Value(key); !ok || !reflect.DeepEqual(got, want) {
			t.Errorf("%s = %.200v, want %.200v", key, got, want)
		}
	}
	merges, _ := f.Value("tokenizer.ggml.merges")
	if m := merges.([]string); len(m) != len(tok.Merges()) || m[0] != tok.Merges()[0][0]+" "+tok.Merges()[0][1] {
		t.Errorf("merges %.100v", m)
	}
}

// Rows of q and k are interleaved within each head, nothing else is moved.
func TestExportPermutesQueryAndKey(t *testing.T) {
	f := export(t, folder(t, small(), shapes(), index), gguf.Options{Type: "F32"})
	for name, rows := range map[string][]int{
		"blk.0.attn_q.weight":      {0, 2, 1, 3, 4, 6, 5, 7}, // heads of 4: 0 with 2, 1 with 3
		"blk.0.attn_k.weight":      {0, 2, 1, 3},
		"blk.0.attn_v.weight":      {0, 1, 2, 3},
		"blk.0.attn_output.weight": {0, 1, 2, 3, 4, 5, 6, 7},
	} {
		b := data(t, f, name)
		for r, from := range rows {
			for c := range 8 {
				if got := math.Float32frombits(binary.LittleEndian.Uint32(b[4*(8*r+c):])); got != float32(8*from+c) {
					t.Fatalf("%s[%d,%d] = %v, want that of row %d", name, r, c, got, from)
				}
			}
		}
	}
}

// Q8_0 is bit for bit what llama.cpp's package makes of the same values.
func TestQuantizesAsTheReference(t *testing.T) {
	raw, err := os.ReadFile("testdata/quantized.json")
	if err != nil {
		t.Fatal(err)
	}
	var ref struct {
		Values []float32
		Q8     string `json:"q8_0"`
	}
	if err := json.Unmarshal(raw, &ref); err != nil {
		t.Fatal(err)
	}
	want, err := hex.DecodeString(ref.Q8)
	if err != nil {
		t.Fatal(err)
	}
	n := len(ref.Values)
	c, s := small(), shapes()
	c["intermediate_size"] = n
	s["model.layers.0.mlp.gate_proj.weight"] = []int{n, 8}
	s["model.layers.0.mlp.up_proj.weight"] = []int{n, 8}
	s["model.layers.0.mlp.down_proj.weight"] = []int{8, n}
	f := export(t, folder(t, c, s, func(i int) float32 { return ref.Values[i%n] }), gguf.Options{Type: "Q8_0"})
	got := data(t, f, "blk.0.ffn_down.weight")
	if len(got) != 8*len(want) || !bytes.Equal(got[:len(want)], want) {
		t.Errorf("the bytes differ from the reference's")
	}
	// Rows of 8 fill no block of 32.
	if info, _ := f.Tensor("blk.0.ffn_up.weight"); info.Type != gguf.F16 {
		t.Errorf("rows of 8 became %s, want F16", info.Type)
	}
}

func TestExportRefuses(t *testing.T) {
	with := func(key string, value any) config { c := small(); c[key] = value; return c }
	without := func(name string) map[string][]int { s := shapes(); delete(s, name); return s }
	extra := shapes()
	extra["model.layers.0.self_attn.q_norm.weight"] = []int{4}
	flat := shapes()
	flat["model.norm.weight"] = []int{9}
	for _, c := range []struct {
		want   string
		config config
		shapes map[string][]int
		value  func(int) float32
		kind   string
	}{
		{want: "architectures", config: with("architectures", []string{"GPT2LMHeadModel"})},
		{want: "hidden_act", config: with("hidden_act", "gelu")},
		{want: "sliding_window", config: with("sliding_window", 8)},
		{want: "quantized", config: with("quantization_config", map[string]any{"bits": 4})},
		{want: "rope_scaling", config: with("rope_scaling", map[string]any{"rope_type": "yarn", "factor": 2})},
		{want: "hidden_size", config: with("hidden_size", 0)},
		{want: "make no model", config: with("num_key_value_heads", 3)},
		{want: "500 ids, the model 400", config: with("vocab_size", 400)},
		{want: "missing", shapes: without("model.norm.weight")},
		{want: "missing", config: with("tie_word_embeddings", false)},
		{want: "has no place", shapes: extra},
		{want: "asks for [8]", shapes: flat},
		{want: "export as BF16", value: func(i int) float32 { return 1e6 }},
		{want: "is not written", kind: "Q3_K_M"},
	} {
		if c.config == nil {
			c.config = small()
		}
		if c.shapes == nil {
			c.shapes = shapes()
		}
		if c.value == nil {
			c.value = index
		}
		out := filepath.Join(t.TempDir(), "m.gguf")
		err := gguf.Export(context.Background(), folder(t, c.config, c.shapes, c.value), out, gguf.Options{Type: c.kind})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("got %v, want %q", err, c.want)
		}
		if left, err := os.ReadDir(filepath.Dir(out)); err != nil || len(left) > 0 {
			t.Errorf("%s: %v %v", c.want, left, err)
		}
	}
}

// A tokenizer that llama.cpp would imitate wrongly is refused.
func TestExportRefusesUnknownTokenizers(t *testing.T) {
	for kind, want := range map[string]string{
		"mistral": "has no name for", "uncased": "has no name for", "clip": "has no name for", "splits": "has no name for", "gpt2-prefix-space": "has no name for",
		"llama2": "which llama.cpp would make", // its merges are fewer than a SentencePiece model's
	} {
		c := small()
		c["vocab_size"] = 1000
		dir := folder(t, c, shapes(), index)
		raw, err := os.ReadFile("../../tokenizer/testdata/" + kind + ".tokenizer.json")
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "tokenizer.json"), raw, 0o644); err != nil {
			t.Fatal(err)
		}
		if err := gguf.Export(context.Background(), dir, filepath.Join(t.TempDir(), "m"), gguf.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", kind, err)
		}
	}
}

func TestExportStopsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := gguf.Export(ctx, folder(t, small(), shapes(), index), filepath.Join(t.TempDir(), "m"), gguf.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
