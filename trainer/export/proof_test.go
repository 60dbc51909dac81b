package export

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/tuned/tunedtest"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// exported runs the stage and gives what its files have to agree with.
func exported(t *testing.T) (dir string, p *proof) {
	t.Helper()
	in := tunedtest.Job(t, tunedtest.Tickets(60), `{"model":"tiny"}`, weights.BF16)
	tunedtest.AddAdapter(t, &in, 0.1, nil)
	in.Stage, in.OutputDir = "export", t.TempDir()
	stage := func(ctx context.Context, in contract.Input, emit *contract.Emitter) (contract.Result, error) {
		e, err := newExporter(in, emit)
		if err != nil {
			return contract.Result{}, err
		}
		if p, _, err = e.prepare(ctx); err != nil {
			return contract.Result{}, err
		}
		return Run(ctx, in, emit)
	}
	if _, _, err := stagetest.Run(context.Background(), t, stage, in); err != nil {
		t.Fatal(err)
	}
	return in.OutputDir, p
}

// rewrite copies a GGUF file with changes to its metadata and its tensors' bytes.
func rewrite(t *testing.T, from string, metadata func(kv gguf.KV) gguf.KV, data func(name string, data []byte) []byte) string {
	t.Helper()
	f, err := gguf.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	kvs := f.Metadata()
	for i, kv := range kvs {
		if metadata != nil {
			kvs[i] = metadata(kv)
		}
	}
	to := filepath.Join(t.TempDir(), filepath.Base(from))
	w, err := gguf.NewWriter(to, kvs, f.Tensors())
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, info := range f.Tensors() {
		r, err := f.Data(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if data != nil {
			b = data(info.Name, b)
		}
		if _, err := w.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return to
}

// Each way in which a file can be broken fails the stage, and the message says where.
func TestABrokenFileIsRefused(t *testing.T) {
	dir, p := exported(t)
	merged := filepath.Join(dir, MergedFolder)
	value := func(key string, change func(any) any) func(gguf.KV) gguf.KV {
		return func(kv gguf.KV) gguf.KV {
			if kv.Key == key {
				kv.Value = change(kv.Value)
			}
			return kv
		}
	}
	tensor := func(name string, change func([]byte)) func(string, []byte) []byte {
		return func(n string, b []byte) []byte {
			if n == name {
				change(b)
			}
			return b
		}
	}
	for name, c := range map[string]struct {
		metadata func(gguf.KV) gguf.KV
		data     func(string, []byte) []byte
		words    string
	}{
		"as it is": {},
		"a scale": {data: tensor("blk.1.ffn_down.weight", func(b []byte) { b[len(b)/34/2*34+1] ^= 0x3c }),
			words: "model.layers.1.mlp.down_proj.weight: row"},
		"a row of zeros":    {data: tensor("blk.0.attn_v.weight", func(b []byte) { clear(b[34:68]) }), words: "model.layers.0.self_attn.v_proj.weight: row 1"},
		"two rows change":   {data: tensor("token_embd.weight", func(b []byte) { copy(b[:34], b[340:374]) }), words: "model.embed_tokens.weight: row 0"},
		"a norm":            {data: tensor("output_norm.weight", func(b []byte) { b[6] ^= 0x40 }), words: "model.norm.weight"},
		"not a number":      {data: tensor("blk.0.attn_q.weight", func(b []byte) { b[0], b[1] = 0xff, 0x7f }), words: "NaN"},
		"another template":  {metadata: value("tokenizer.chat_template", func(any) any { return "{{ messages[0].content }}" }), words: "another chat template"},
		"an end is missing": {metadata: value("tokenizer.ggml.tokens", func(v any) any { return renamed(v.([]string), "<|im_end|>") }), words: `lacks the token "<|im_end|>"`},
		"merges in another order": {metadata: value("tokenizer.ggml.merges", func(v any) any {
			list := append([]string(nil), v.([]string)...)
			slices.Reverse(list)
			return list
		}), words: "the tokenizer of job_Q8_0.gguf makes"},
		"another base of the rotation": {metadata: value("llama.rope.freq_base", func(any) any { return float32(20) }), words: "does not compute what was trained"},
		"another scale of the norms":   {metadata: value("llama.attention.layer_norm_rms_epsilon", func(any) any { return float32(0.9) }), words: "does not compute what was trained"},
		"too few layers":               {metadata: value("llama.block_count", func(any) any { return uint32(1) }), words: "has no place"},
	} {
		t.Run(name, func(t *testing.T) {
			path := rewrite(t, filepath.Join(dir, "job_Q8_0.gguf"), c.metadata, c.data)
			_, err := p.file(context.Background(), path, "Q8_0", merged)
			var fault *contract.Error
			switch {
			case c.words == "" && err != nil:
				t.Errorf("refused: %v", err)
			case c.words != "" && (!errors.As(err, &fault) || fault.Code != "EXPORT_DIFFERS" || !strings.Contains(fault.Message, c.words) || !strings.Contains(fault.Message, "job_Q8_0.gguf")):
				t.Errorf("got %v, want %q", err, c.words)
			}
		})
	}
	whole, err := os.ReadFile(filepath.Join(dir, "job_Q8_0.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	short := filepath.Join(t.TempDir(), "job_Q8_0.gguf")
	if err := os.WriteFile(short, whole[:len(whole)-100], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := p.file(context.Background(), short, "Q8_0", merged); err == nil || !strings.Contains(err.Error(), "cannot be read again") {
		t.Errorf("a truncated file: %v", err)
	}
}

func renamed(tokens []string, token string) []string {
	out := append([]string(nil), tokens...)
	for i := range out {
		if out[i] == token {
			out[i] = "another"
		}
	}
	return out
}

// A merged folder is held to the same.
func TestABrokenFolderIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		file, from, to, words string
	}{
		"template": {"tokenizer_config.json", "im_start", "im_begin", "another chat template"},
		"token":    {"tokenizer.json", "<|im_end|>", "<|im_over|>", "lacks the token"},
		"epsilon":  {"config.json", `"rms_norm_eps": 0.00001`, `"rms_norm_eps": 0.9`, "does not compute what was trained"},
	} {
		t.Run(name, func(t *testing.T) {
			dir, p := exported(t)
			path := filepath.Join(dir, MergedFolder, c.file)
			raw, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			changed := strings.ReplaceAll(string(raw), c.from, c.to)
			if changed == string(raw) {
				t.Fatalf("%s has no %q: %.600s", c.file, c.from, raw)
			}
			if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := p.folder(context.Background(), filepath.Join(dir, MergedFolder), weights.BF16); err == nil || !strings.Contains(err.Error(), c.words) {
				t.Errorf("got %v, want %q", err, c.words)
			}
		})
	}
}
