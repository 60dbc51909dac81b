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

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/tuned/tunedtest"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// exported runs the stage and gives what its files have to agree with.
func exported(t *testing.T, rsLoRA bool) (dir string, p *proof, files tuned.Files) {
	t.Helper()
	in := tunedtest.Job(t, tunedtest.Tickets(60), `{"model":"tiny"}`, weights.BF16)
	tunedtest.AddAdapter(t, &in, 0.1, func(c *adapter.Config, list []adapter.Tensor) []adapter.Tensor {
		c.UseRSLoRA = rsLoRA
		return list
	})
	in.Stage, in.OutputDir = "export", t.TempDir()
	stage := func(ctx context.Context, in contract.Input, emit *contract.Emitter) (contract.Result, error) {
		e, err := newExporter(in, emit)
		if err != nil {
			return contract.Result{}, err
		}
		if p, _, err = e.prepare(ctx); err != nil {
			return contract.Result{}, err
		}
		files = e.files
		return Run(ctx, in, emit)
	}
	if _, _, err := stagetest.Run(context.Background(), t, stage, in); err != nil {
		t.Fatal(err)
	}
	return in.OutputDir, p, files
}

// damage is what rewrite changes of a file; nil for nothing.
type damage struct {
	metadata func(kv gguf.KV) gguf.KV
	name     func(name string) string // of a tensor
	data     func(name string, data []byte) []byte
}

// value changes one value of the metadata.
func value(key string, change func(any) any) func(gguf.KV) gguf.KV {
	return func(kv gguf.KV) gguf.KV {
		if kv.Key == key {
			kv.Value = change(kv.Value)
		}
		return kv
	}
}

// tensor changes the bytes of one tensor.
func tensor(name string, change func([]byte)) func(string, []byte) []byte {
	return func(n string, b []byte) []byte {
		if n == name {
			change(b)
		}
		return b
	}
}

// rewrite copies a GGUF file with changes.
func rewrite(t *testing.T, from string, d damage) string {
	t.Helper()
	f, err := gguf.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	kvs := f.Metadata()
	for i, kv := range kvs {
		if d.metadata != nil {
			kvs[i] = d.metadata(kv)
		}
	}
	to := filepath.Join(t.TempDir(), filepath.Base(from))
	infos := f.Tensors()
	for i := range infos {
		if d.name != nil {
			infos[i].Name = d.name(infos[i].Name)
		}
	}
	w, err := gguf.NewWriter(to, kvs, infos)
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
		if d.data != nil {
			b = d.data(info.Name, b)
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
	dir, p, _ := exported(t, false)
	merged := filepath.Join(dir, MergedFolder)
	for name, c := range map[string]struct {
		damage
		words string
	}{
		"as it is": {},
		"a scale": {damage{data: tensor("blk.1.ffn_down.weight", func(b []byte) { b[len(b)/34/2*34+1] ^= 0x3c })},
			"model.layers.1.mlp.down_proj.weight: row"},
		"a row of zeros":    {damage{data: tensor("blk.0.attn_v.weight", func(b []byte) { clear(b[34:68]) })}, "model.layers.0.self_attn.v_proj.weight: row 1"},
		"two rows change":   {damage{data: tensor("token_embd.weight", func(b []byte) { copy(b[:34], b[340:374]) })}, "model.embed_tokens.weight: row 0"},
		"a norm":            {damage{data: tensor("output_norm.weight", func(b []byte) { b[6] ^= 0x40 })}, "model.norm.weight"},
		"not a number":      {damage{data: tensor("blk.0.attn_q.weight", func(b []byte) { b[0], b[1] = 0xff, 0x7f })}, "NaN"},
		"another template":  {damage{metadata: value("tokenizer.chat_template", func(any) any { return "{{ messages[0].content }}" })}, "another chat template"},
		"an end is missing": {damage{metadata: value("tokenizer.ggml.tokens", func(v any) any { return renamed(v.([]string), "<|im_end|>") })}, `lacks the token "<|im_end|>"`},
		"merges in another order": {damage{metadata: value("tokenizer.ggml.merges", func(v any) any {
			list := append([]string(nil), v.([]string)...)
			slices.Reverse(list)
			return list
		})}, "the tokenizer of job_Q8_0.gguf makes"},
		"another base of the rotation": {damage{metadata: value("llama.rope.freq_base", func(any) any { return float32(20) })}, "does not compute what was trained"},
		"another scale of the norms":   {damage{metadata: value("llama.attention.layer_norm_rms_epsilon", func(any) any { return float32(0.9) })}, "does not compute what was trained"},
		"too few layers":               {damage{metadata: value("llama.block_count", func(any) any { return uint32(1) })}, "has no place"},
	} {
		t.Run(name, func(t *testing.T) {
			path := rewrite(t, filepath.Join(dir, "job_Q8_0.gguf"), c.damage)
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
	short := truncated(t, filepath.Join(dir, "job_Q8_0.gguf"))
	if _, err := p.file(context.Background(), short, "Q8_0", merged); err == nil || !strings.Contains(err.Error(), "cannot be read again") {
		t.Errorf("a truncated file: %v", err)
	}
}

// truncated copies a file but for its end.
func truncated(t *testing.T, from string) string {
	t.Helper()
	whole, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	to := filepath.Join(t.TempDir(), filepath.Base(from))
	if err := os.WriteFile(to, whole[:len(whole)-100], 0o600); err != nil {
		t.Fatal(err)
	}
	return to
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
			dir, p, _ := exported(t, false)
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
