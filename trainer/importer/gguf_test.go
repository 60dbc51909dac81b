package importer_test

import (
	"context"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/importer"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// A file that this engine would compute or read otherwise than llama.cpp does is
// refused with the reason.
func TestGGUFRefusals(t *testing.T) {
	type change = func(kvs map[string]any, tensors map[string]*gguf.TensorInfo)
	set := func(key string, value any) change {
		return func(kvs map[string]any, _ map[string]*gguf.TensorInfo) { kvs[key] = value }
	}
	drop := func(key string) change {
		return func(kvs map[string]any, _ map[string]*gguf.TensorInfo) { delete(kvs, key) }
	}
	tensor := func(name string, kind gguf.Type, shape ...int) change {
		return func(_ map[string]any, tensors map[string]*gguf.TensorInfo) {
			tensors[name] = &gguf.TensorInfo{Type: kind, Shape: shape}
		}
	}
	for want, c := range map[string]change{
		`general.architecture is "gemma2"`:          set("general.architecture", "gemma2"),
		`general.type is "adapter"`:                 set("general.type", "adapter"),
		"split into 3 files":                        set("split.count", uint16(3)),
		"mixture of 8 experts":                      set("llama.expert_count", uint32(8)),
		"llama.block_count is missing":              drop("llama.block_count"),
		"block_count is missing or no single":       set("llama.block_count", "two"),
		"num_hidden_layers is 0":                    set("llama.block_count", uint32(0)),
		"differs from layer to layer":               set("llama.attention.head_count_kv", []uint32{1, 2}),
		"layer_norm_rms_epsilon is missing":         drop("llama.attention.layer_norm_rms_epsilon"),
		"a head has 16 dimensions":                  set("llama.rope.dimension_count", uint32(8)),
		"llama.attention.value_length is 8":         set("llama.attention.value_length", uint32(8)),
		`rope scaling "yarn"`:                       set("llama.rope.scaling.type", "yarn"),
		"not those of rope scaling llama3":          tensor("rope_freqs.weight", gguf.F32, 8), // all zero
		"rope_freqs.weight has 4 values":            tensor("rope_freqs.weight", gguf.F32, 4),
		"llama.logit_scale is 0.5":                  set("llama.logit_scale", float32(0.5)),
		"blk.0.attn_q.bias has no place":            tensor("blk.0.attn_q.bias", gguf.F32, 32),
		"blk.0.attn_k.weight has shape [32 32]":     tensor("blk.0.attn_k.weight", gguf.F32, 32, 32),
		"token_embd.weight is missing or no matrix": tensor("token_embd.weight", gguf.F32, 32),
		"Q3_K, which is not decoded": func(kvs map[string]any, tensors map[string]*gguf.TensorInfo) {
			tensors["output.weight"] = &gguf.TensorInfo{Type: 11, Shape: []int{4, 256}}
		},
		"blk.0.ffn_up.weight is missing": func(_ map[string]any, tensors map[string]*gguf.TensorInfo) { delete(tensors, "blk.0.ffn_up.weight") },
		`tokenizer.ggml.pre is "tekken"`: set("tokenizer.ggml.pre", "tekken"),
		`tokenizer.ggml.model is "rwkv"`: set("tokenizer.ggml.model", "rwkv"),
		"4 tokens, but 0 scores":         set("tokenizer.ggml.model", "t5"),
		"without a vocabulary":           drop("tokenizer.ggml.model"),
		"tokens is missing or empty":     drop("tokenizer.ggml.tokens"),
		"5 tokens, but the embedding has 4 rows": func(kvs map[string]any, _ map[string]*gguf.TensorInfo) {
			kvs["tokenizer.ggml.tokens"], kvs["tokenizer.ggml.token_type"] = []string{"a", "b", "ab", "c", "d"}, []int32{1, 1, 1, 1, 1}
		},
		"4 tokens, but 3 token types":                  set("tokenizer.ggml.token_type", []int32{1, 1, 1}),
		`tokens 1 and 3 are both "b"`:                  set("tokenizer.ggml.tokens", []string{"a", "b", "ab", "b"}),
		"merges is missing":                            drop("tokenizer.ggml.merges"),
		"a part or the whole is not in the vocabulary": set("tokenizer.ggml.merges", []string{"b a"}),
		"eos_token_id is 9, but there are 4 tokens":    set("tokenizer.ggml.eos_token_id", uint32(9)),
	} {
		dir := t.TempDir()
		path, out := filepath.Join(dir, "x.gguf"), filepath.Join(dir, "out")
		if err := os.WriteFile(path, tinyGGUF(t, byteLevel(), c), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := importer.Import(context.Background(), path, out, importer.Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if _, err := os.Stat(out); !os.IsNotExist(err) {
			t.Errorf("%s: something is left behind", want)
		}
	}
}

// What llama.cpp takes for granted where a file says nothing is taken for granted: a
// beginning before every text for SentencePiece and Llama 3, none for others.
func TestGGUFDefaults(t *testing.T) {
	llama3 := byteLevel()
	for i, kv := range llama3 {
		if kv.Key == "tokenizer.ggml.pre" {
			llama3[i].Value = "llama-bpe"
		}
	}
	bos := gguf.KV{Key: "tokenizer.ggml.bos_token_id", Value: uint32(3)}
	no := gguf.KV{Key: "tokenizer.ggml.add_bos_token", Value: false}
	end := gguf.KV{Key: "tokenizer.ggml.add_eos_token", Value: true}
	for _, c := range []struct {
		label          string
		vocab          []gguf.KV
		prefix, suffix int
	}{
		{"smollm", append(byteLevel(), bos), 0, 0},
		{"smollm with an end", append(byteLevel(), bos, end), 0, 1},
		{"llama 3", append(llama3, bos), 1, 0},
		{"llama 3 without", append(llama3, bos, no), 0, 0},
		{"llama 3 that names none", llama3, 0, 0},
		{"SentencePiece", sentencePiece(), 1, 0},
		{"SentencePiece without", append(sentencePiece(), no), 0, 0},
	} {
		path := filepath.Join(t.TempDir(), "x.gguf")
		if err := os.WriteFile(path, tinyGGUF(t, c.vocab), 0o644); err != nil {
			t.Fatal(err)
		}
		_, out := run(t, path, importer.Options{})
		tok, err := tokenizer.Load(out)
		if err != nil {
			t.Fatal(err)
		}
		if len(tok.Prefix()) != c.prefix || len(tok.Suffix()) != c.suffix {
			t.Errorf("%s: %v before and %v after a text", c.label, tok.Prefix(), tok.Suffix())
		}
	}
}

// A Unigram vocabulary that llama.cpp reads otherwise than SentencePiece meant it is refused.
func TestUnigramRefusals(t *testing.T) {
	set := func(key string, value any) func(kvs map[string]any, _ map[string]*gguf.TensorInfo) {
		return func(kvs map[string]any, _ map[string]*gguf.TensorInfo) { kvs["tokenizer.ggml."+key] = value }
	}
	for want, c := range map[string]func(kvs map[string]any, tensors map[string]*gguf.TensorInfo){
		"marks spaces behind words":        set("treat_whitespace_as_suffix", true),
		"has none before a text":           set("add_space_prefix", false),
		"is []string instead of bytes":     set("precompiled_charsmap", []string{"ALwC"}),
		"normalizer Precompiled: the char": set("precompiled_charsmap", []byte{1}),
		"no finite score":                  set("scores", []float32{0, 0, float32(math.Inf(1)), -1}),
		"are both":                         set("tokens", []string{"<u>", "</s>", "a", "a"}),
	} {
		path := filepath.Join(t.TempDir(), "x.gguf")
		if err := os.WriteFile(path, tinyGGUF(t, unigram(), c), 0o644); err != nil {
			t.Fatal(err)
		}
		if _, err := importer.Import(context.Background(), path, filepath.Join(t.TempDir(), "out"), importer.Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
