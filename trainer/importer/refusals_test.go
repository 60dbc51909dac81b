package importer_test

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/importer"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

const lfsPointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"

// spoiled is a folder with something wrong, what is said of it, and what is told to do.
type spoiled struct {
	what, do string
	spoil    func(s *source)
	// small says that the files beside the weights tell it, so that Check does too.
	small bool
}

func spoiledFolders() map[string]spoiled {
	rewrite := func(name, old, with string) func(*source) {
		return func(s *source) {
			raw, err := os.ReadFile(filepath.Join(s.dir, name))
			if err != nil || !bytes.Contains(raw, []byte(old)) {
				s.t.Fatalf("%s has no %s, %v", name, old, err)
			}
			s.write(name, bytes.ReplaceAll(raw, []byte(old), []byte(with)))
		}
	}
	only := func(keep ...string) func(*source) {
		return func(s *source) {
			entries, err := os.ReadDir(s.dir)
			if err != nil {
				s.t.Fatal(err)
			}
			for _, e := range entries {
				_ = os.Remove(filepath.Join(s.dir, e.Name()))
			}
			for _, k := range keep {
				s.write(k, []byte("{}"))
			}
		}
	}
	return map[string]spoiled{
		"another architecture": {"architectures is [Phi3ForCausalLM] in config.json, which is not supported", "choose a model that has one of LlamaForCausalLM, MistralForCausalLM",
			rewrite("config.json", "LlamaForCausalLM", "Phi3ForCausalLM"), true},
		"a property": {"config.json asks for attention_bias, which is not supported for LlamaForCausalLM", "choose another model",
			rewrite("config.json", `"bos_token_id"`, `"attention_bias":true,"bos_token_id"`), true},
		"quantized": {"quantization_config", "choose the original model, whose weights are not quantized, or a GGUF file of it",
			rewrite("config.json", `"bos_token_id"`, `"quantization_config":{"quant_method":"gptq"},"bos_token_id"`), true},
		"quantized by MLX": {"config.json asks for quantization, which", "choose the original model, whose weights are not quantized",
			rewrite("config.json", `"bos_token_id"`, `"quantization":{"bits":4},"bos_token_id"`), true},
		"a number as text": {"config.json: line 1: hidden_size is a text in quotes, but has to be a whole number", "correct the file or fetch it again",
			rewrite("config.json", `"hidden_size":64`, `"hidden_size":"64"`), true},
		"no JSON":                  {"config.json: line 1: no JSON", "correct the file or fetch it again", func(s *source) { s.write("config.json", []byte("<html>")) }, true},
		"config is a pointer":      {"config.json: it is a pointer of Git LFS", "git lfs pull", func(s *source) { s.write("config.json", []byte(lfsPointer)) }, true},
		"tokenizer is a pointer":   {"tokenizer.json: it is a pointer of Git LFS", "git lfs pull", func(s *source) { s.write("tokenizer.json", []byte(lfsPointer)) }, true},
		"WordPiece":                {`tokenizer.json: tokenizer: model "WordPiece" is not supported`, "choose another model", rewrite("tokenizer.json", `"type":"BPE"`, `"type":"WordPiece"`), true},
		"the tokenizer is no JSON": {"tokenizer.json: tokenizer: line 1: no JSON", "correct the file or fetch it again", func(s *source) { s.write("tokenizer.json", []byte("{]")) }, true},
		"no tokenizer":             {"neither tokenizer.json nor tokenizer.model", "fetch or copy the tokenizer too", func(s *source) { _ = os.Remove(filepath.Join(s.dir, "tokenizer.json")) }, true},
		"another's tokenizer":      {"the model's embedding 20 rows", "fetch or copy both from one place", func(s *source) { s.config["vocab_size"] = 20; s.writeJSON("config.json", s.config) }, true},
		"an adapter, as PEFT saves": {"is a PEFT adapter, not a whole model", "tunemesh model pull hf:org/base", func(s *source) {
			only("adapter_model.safetensors")(s)
			s.write("adapter_config.json", []byte(`{"base_model_name_or_path":"org/base"}`))
		}, true},
		"an adapter of a folder": {"is a PEFT adapter, not a whole model", "import its base model ./base, and tune that", func(s *source) {
			only("adapter_model.safetensors")(s)
			s.write("adapter_config.json", []byte(`{"base_model_name_or_path":"./base"}`))
		}, true},
		"only a GGUF file": {"no config.json, but m.gguf", "give that file and not its folder", only("m.gguf", "README.md"), true},
		"nothing":          {"no config.json: it is no Hugging Face model", "give the folder that holds it", only("README.md"), true},
		"a folder above": {"no config.json, but snapshots/abc in it has", "give that folder", func(s *source) {
			only()(s)
			if err := os.MkdirAll(filepath.Join(s.dir, "snapshots", "abc"), 0o755); err != nil {
				s.t.Fatal(err)
			}
			s.write("snapshots/abc/config.json", []byte("{}"))
		}, true},
		"a shard is missing": {"weights: model-00002-of-00002.safetensors is not there, though model.safetensors.index.json names it", "fetch or copy that file too", func(s *source) {
			shards(s)
			_ = os.Remove(filepath.Join(s.dir, "model-00002-of-00002.safetensors"))
		}, false},
		"no index": {"2 files of weights (model-00001-of-00002.safetensors, ...), but no model.safetensors.index.json", "fetch or copy that too", func(s *source) {
			shards(s)
			_ = os.Remove(filepath.Join(s.dir, weights.IndexName))
		}, false},
		"another name": {"the folder has weights.safetensors, but neither model.safetensors", "rename it to the first", func(s *source) {
			if err := os.Rename(filepath.Join(s.dir, weights.SingleName), filepath.Join(s.dir, "weights.safetensors")); err != nil {
				s.t.Fatal(err)
			}
		}, false},
		"no weights":             {"neither model.safetensors nor model.safetensors.index.json", "fetch or copy the weights too", func(s *source) { _ = os.Remove(filepath.Join(s.dir, weights.SingleName)) }, false},
		"weights are a pointer":  {"weights: model.safetensors: it is a pointer of Git LFS, not the file itself", "git lfs pull", func(s *source) { s.write(weights.SingleName, []byte(lfsPointer)) }, false},
		"weights are cut off":    {"weights: model.safetensors: tensor", "the file is damaged or not whole: fetch or copy it again", func(s *source) { _ = os.Truncate(filepath.Join(s.dir, weights.SingleName), 9000) }, false},
		"the index lacks a name": {"tensor model.norm.weight is missing", "fetch the model again, or choose another one", func(s *source) { shards(s); rewrite(weights.IndexName, "model.norm.weight", "lm_head.weight")(s) }, true},
		"the index has one too many": {"tensor model.layers.0.self_attn.q_proj.bias is none that LlamaForCausalLM has", "choose another one", func(s *source) {
			shards(s)
			rewrite(weights.IndexName, `{"weight_map":{`, `{"weight_map":{"model.layers.0.self_attn.q_proj.bias":"model-00001-of-00002.safetensors",`)(s)
		}, true},
	}
}

func shards(s *source) {
	_ = os.Remove(filepath.Join(s.dir, weights.SingleName))
	s.saveShards(s.tensors(weights.BF16))
}

// Every refusal says what is wrong, in which of the model's files, and what to do; of the
// folders that an import works in it says nothing. What the small files tell, Check tells.
func TestRefusalsSayWhatAndWhereAndWhatToDo(t *testing.T) {
	for label, c := range spoiledFolders() {
		s := newSource(t, "smollm", nil)
		s.save(s.tensors(weights.BF16))
		c.spoil(s)
		out := filepath.Join(t.TempDir(), "out")
		_, imported := importer.Import(context.Background(), s.dir, out, importer.Options{Name: "hf:org/name"})
		errs := map[string]error{"Import": imported}
		if c.small {
			errs["Check"] = importer.Check(s.dir, 0)
		} else if err := importer.Check(s.dir, 0); err != nil {
			t.Errorf("%s: Check: %v", label, err)
		}
		for call, err := range errs {
			if err == nil {
				t.Errorf("%s: %s takes it", label, call)
				continue
			}
			text := err.Error()
			for _, want := range []string{c.what, c.do} {
				if !strings.Contains(text, want) {
					t.Errorf("%s: %s: %v, want %q", label, call, err, want)
				}
			}
			if strings.Contains(text, s.dir) || strings.Contains(text, out) || strings.Contains(text, "Go ") || strings.Contains(text, "peft for this") {
				t.Errorf("%s: %s: %v", label, call, err)
			}
			if call == "Import" && !strings.HasPrefix(text, "import hf:org/name: ") {
				t.Errorf("%s: %v", label, err)
			}
		}
	}
}

// Weights of fewer than two bytes a parameter cannot be in a format that is read.
func TestWeightsThatAreTooSmallAreQuantized(t *testing.T) {
	s := newSource(t, "smollm", nil)
	s.save(s.tensors(weights.BF16))
	var bytes int64
	for _, w := range s.tensors(weights.BF16) {
		bytes += int64(len(w.Data))
	}
	if err := importer.Check(s.dir, bytes); err != nil {
		t.Errorf("%v", err)
	}
	var unsupported *importer.UnsupportedError
	if err := importer.Check(s.dir, bytes-1); !errors.As(err, &unsupported) || !strings.Contains(err.Error(), "choose the original model") {
		t.Errorf("%v", err)
	}
}

// Files too.
func TestAFileThatIsNoModel(t *testing.T) {
	for text, want := range map[string]string{
		lfsPointer: "it is a pointer of Git LFS, not the file itself: fetch that with git lfs pull",
		"{}":       "give the folder that holds config.json, or a .gguf",
		"GGUF":     "import my.gguf: ",
	} {
		path := filepath.Join(t.TempDir(), "x.gguf")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		_, err := importer.Import(context.Background(), path, filepath.Join(t.TempDir(), "out"), importer.Options{Name: "my.gguf"})
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), path) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

// The beginning of a GGUF file tells what it is, wherever it ends.
func TestTheBeginningOfAGGUFFileIsChecked(t *testing.T) {
	check := func(data []byte) error {
		path := filepath.Join(t.TempDir(), "x.gguf")
		if err := os.WriteFile(path, data, 0o644); err != nil {
			t.Fatal(err)
		}
		return importer.Check(path, 0)
	}
	good := tinyGGUF(t, byteLevel())
	for n := 24; n <= len(good); n += 8 {
		if err := check(good[:n]); err != nil {
			t.Errorf("the first %d of %d bytes: %v", n, len(good), err)
		}
	}
	for old, c := range map[string][2]string{
		"llama":  {"phi-3", `general.architecture is "phi-3"; imported are llama, qwen2, qwen3, gemma3; choose another model`},
		"smollm": {"tekken", `tokenizer.ggml.pre is "tekken"`},
	} {
		bad := bytes.ReplaceAll(good, []byte(old), []byte(c[0]))
		at := bytes.Index(bad, []byte(c[0])) + len(c[0])
		err := check(bad[:at])
		var unsupported *importer.UnsupportedError
		if err == nil || !strings.Contains(err.Error(), c[1]) || strings.Contains(err.Error(), os.TempDir()) || !errors.As(err, &unsupported) {
			t.Errorf("%v, want %q", err, c[1])
		}
	}
	if err := check([]byte("<html>")); err == nil || !strings.Contains(err.Error(), "not a GGUF file") {
		t.Errorf("%v", err)
	}
}

// A disk's fault keeps its cause, and its file's name.
func TestAFaultOfTheDiskKeepsItsCause(t *testing.T) {
	s := newSource(t, "smollm", nil)
	s.save(s.tensors(weights.BF16))
	if err := os.Remove(filepath.Join(s.dir, "config.json")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(s.dir, "config.json"), 0o755); err != nil {
		t.Fatal(err)
	}
	_, err := importer.Import(context.Background(), s.dir, filepath.Join(t.TempDir(), "out"), importer.Options{})
	if !errors.Is(err, syscall.EISDIR) || !strings.Contains(err.Error(), "read config.json: ") {
		t.Errorf("%v", err)
	}
}
