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
	vocabulary := []gguf.KV{
		{"tokenizer.ggml.model", "gpt2"}, {"tokenizer.ggml.pre", "smollm"}, {"tokenizer.ggml.tokens", []string{"a", "b", "ab", "<e>"}},
		{"tokenizer.ggml.token_type", []int32{1, 1, 1, 3}}, {"tokenizer.ggml.merges", []string{"a b"}}, {"tokenizer.ggml.eos_token_id", uint32(3)},
	}
	sentencePiece := []gguf.KV{
		{"tokenizer.ggml.model", "llama"}, {"tokenizer.ggml.tokens", []string{"<u>", "<s>", "▁", "▁▁"}}, {"tokenizer.ggml.scores", []float32{0, 0, -2, -1}},
		{"tokenizer.ggml.token_type", []int32{2, 3, 1, 1}}, {"tokenizer.ggml.bos_token_id", uint32(1)},
	}
	for _, vocab := range [][]gguf.KV{vocabulary, sentencePiece} {
		f.Add(tinyGGUF(f, vocab))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		dir := t.TempDir()
		path, out := filepath.Join(dir, "x.gguf"), filepath.Join(dir, "out")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := importer.Import(context.Background(), path, out, importer.Options{})
		if _, there := os.Stat(out); (there == nil) != (err == nil) {
			t.Errorf("import says %v, and of the folder %v", err, there)
		}
	})
}

// tinyGGUF is a model of one layer and 4 tokens.
func tinyGGUF(t testing.TB, vocab []gguf.KV) []byte {
	t.Helper()
	kvs := append([]gguf.KV{
		{"general.architecture", "llama"}, {"llama.block_count", uint32(1)}, {"llama.context_length", uint32(8)}, {"llama.embedding_length", uint32(32)},
		{"llama.feed_forward_length", uint32(32)}, {"llama.attention.head_count", uint32(2)}, {"llama.attention.head_count_kv", uint32(1)},
		{"llama.attention.layer_norm_rms_epsilon", float32(1e-5)},
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
	path := filepath.Join(t.TempDir(), "x.gguf")
	data := tinyGGUF(t, []gguf.KV{
		{"tokenizer.ggml.model", "llama"}, {"tokenizer.ggml.tokens", []string{"<u>", "<s>", "▁", "▁▁"}}, {"tokenizer.ggml.scores", []float32{0, 0, -2, -1}},
		{"tokenizer.ggml.token_type", []int32{2, 3, 1, 1}}, {"tokenizer.ggml.bos_token_id", uint32(1)},
	})
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	d, _ := run(t, path, importer.Options{})
	if d.Parameters == 0 || d.Tokenizer != "SentencePiece BPE, 4 tokens" || d.Template != "none" {
		t.Errorf("%+v", d)
	}
	for _, w := range d.Warnings {
		t.Log(w)
	}
}
