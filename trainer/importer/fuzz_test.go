package importer_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/importer"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// No file makes the import fail otherwise than by an error, and after an error
// nothing is left.
func FuzzImportGGUF(f *testing.F) {
	for _, vocab := range [][]gguf.KV{byteLevel(), sentencePiece(), unigram()} {
		f.Add(tinyGGUF(f, vocab))
	}
	for _, arch := range []string{"qwen2", "qwen3"} {
		f.Add(bytes.ReplaceAll(tinyGGUF(f, byteLevel()), []byte("llama"), []byte(arch)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		path, out := filepath.Join(dir, "x.gguf"), filepath.Join(dir, "out")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := importer.Import(context.Background(), path, out, importer.Options{})
		if refused := importer.Check(path, 0); err == nil && refused != nil {
			t.Errorf("what is imported is refused by its beginning: %v", refused)
		}
		if _, there := os.Stat(out); (there == nil) != (err == nil) {
			t.Errorf("import says %v, and of the folder %v", err, there)
		}
	})
}

// byteLevel, sentencePiece and unigram are vocabularies of 4 tokens.
func byteLevel() []gguf.KV {
	return []gguf.KV{
		{Key: "tokenizer.ggml.model", Value: "gpt2"}, {Key: "tokenizer.ggml.pre", Value: "smollm"}, {Key: "tokenizer.ggml.tokens", Value: []string{"a", "b", "ab", "<e>"}},
		{Key: "tokenizer.ggml.token_type", Value: []int32{1, 1, 1, 3}}, {Key: "tokenizer.ggml.merges", Value: []string{"a b"}}, {Key: "tokenizer.ggml.eos_token_id", Value: uint32(3)},
	}
}

func sentencePiece() []gguf.KV {
	return []gguf.KV{
		{Key: "tokenizer.ggml.model", Value: "llama"}, {Key: "tokenizer.ggml.tokens", Value: []string{"<u>", "<s>", "▁", "▁▁"}}, {Key: "tokenizer.ggml.scores", Value: []float32{0, 0, -2, -1}},
		{Key: "tokenizer.ggml.token_type", Value: []int32{2, 3, 1, 1}}, {Key: "tokenizer.ggml.bos_token_id", Value: uint32(1)},
	}
}

func unigram() []gguf.KV {
	return []gguf.KV{
		{Key: "tokenizer.ggml.model", Value: "t5"}, {Key: "tokenizer.ggml.tokens", Value: []string{"<u>", "</s>", "▁", "▁a"}}, {Key: "tokenizer.ggml.scores", Value: []float32{0, 0, -2, -1}},
		{Key: "tokenizer.ggml.token_type", Value: []int32{2, 3, 1, 1}}, {Key: "tokenizer.ggml.unknown_token_id", Value: uint32(0)}, {Key: "tokenizer.ggml.remove_extra_whitespaces", Value: true},
	}
}

// tinyGGUF is a model of one layer and 4 tokens, with its metadata and its tensors
// changed by change.
func tinyGGUF(t testing.TB, vocab []gguf.KV, change ...func(kvs map[string]any, tensors map[string]*gguf.TensorInfo)) []byte {
	t.Helper()
	kvs := append([]gguf.KV{
		{Key: "general.architecture", Value: "llama"}, {Key: "llama.block_count", Value: uint32(1)}, {Key: "llama.context_length", Value: uint32(8)}, {Key: "llama.embedding_length", Value: uint32(32)},
		{Key: "llama.feed_forward_length", Value: uint32(32)}, {Key: "llama.attention.head_count", Value: uint32(2)}, {Key: "llama.attention.head_count_kv", Value: uint32(1)},
		{Key: "llama.attention.layer_norm_rms_epsilon", Value: float32(1e-5)},
	}, vocab...)
	var infos []gguf.TensorInfo
	for name, shape := range map[string][]int{
		"token_embd.weight": {4, 32}, "output_norm.weight": {32}, "blk.0.attn_norm.weight": {32}, "blk.0.ffn_norm.weight": {32},
		"blk.0.attn_q.weight": {32, 32}, "blk.0.attn_k.weight": {16, 32}, "blk.0.attn_v.weight": {16, 32}, "blk.0.attn_output.weight": {32, 32},
		"blk.0.ffn_gate.weight": {32, 32}, "blk.0.ffn_up.weight": {32, 32}, "blk.0.ffn_down.weight": {32, 32},
	} {
		kind := gguf.Q4_0
		if len(shape) == 1 {
			kind = gguf.F32
		}
		infos = append(infos, gguf.TensorInfo{Name: name, Type: kind, Shape: shape})
	}
	for _, c := range change {
		values, tensors := map[string]any{}, map[string]*gguf.TensorInfo{}
		for _, kv := range kvs {
			values[kv.Key] = kv.Value
		}
		for i := range infos {
			tensors[infos[i].Name] = &infos[i]
		}
		c(values, tensors)
		kvs, infos = kvs[:0], nil
		for key, value := range values {
			kvs = append(kvs, gguf.KV{Key: key, Value: value})
		}
		for name, info := range tensors {
			info.Name = name
			infos = append(infos, *info)
		}
	}
	path := filepath.Join(t.TempDir(), "x.gguf")
	w, err := gguf.NewWriter(path, kvs, infos)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, info := range infos {
		n, err := info.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(bytes.Repeat([]byte{0}, int(n))); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// The seeds of the fuzzing are models: otherwise it would look at the first check only.
func TestTheSeedsAreImported(t *testing.T) {
	for want, vocab := range map[string][]gguf.KV{"SentencePiece BPE, 4 tokens": sentencePiece(), "SentencePiece Unigram, 4 tokens": unigram()} {
		path := filepath.Join(t.TempDir(), "x.gguf")
		if err := os.WriteFile(path, tinyGGUF(t, vocab), 0o644); err != nil {
			t.Fatal(err)
		}
		d, _ := run(t, path, importer.Options{})
		if d.Parameters == 0 || d.Tokenizer != want || d.Template != "none" {
			t.Errorf("%+v", d)
		}
		for _, w := range d.Warnings {
			t.Log(w)
		}
	}
}
