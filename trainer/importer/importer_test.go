package importer_test

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"

	"github.com/tunemesh/tunemesh/trainer/importer"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// A folder comes out in one file with its tensors as they were, whatever the number
// format and the number of shards.
func TestFolder(t *testing.T) {
	for _, dtype := range []string{weights.F32, weights.F16, weights.BF16} {
		for _, sharded := range []bool{false, true} {
			s := newSource(t, "smollm", nil)
			tensors := s.tensors(dtype)
			if sharded {
				s.saveShards(tensors)
			} else {
				s.save(tensors)
			}
			s.write("README.md", []byte("---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\nlicense: mit\n"))
			s.write("LICENSE", []byte("the text"))
			s.write("optimizer.pt", []byte("not of the model"))
			var last, all int64
			d, out := run(t, s.dir, importer.Options{Progress: func(done, total int64) { last, all = done, total }})
			same(t, out, tensors)
			if d.DType != dtype || d.SourceDType != dtype || d.Kind != "huggingface" || d.Architecture != "LlamaForCausalLM" || d.License != "apache-2.0" ||
				d.Template != "chatml" || d.Context != 1024 || len(d.Warnings) != 0 || len(d.Notes) != 0 {
				t.Errorf("%s: %+v", dtype, d)
			}
			if last != all || all == 0 {
				t.Errorf("progress ended at %d of %d", last, all)
			}
			var names []string
			for _, f := range d.Files {
				names = append(names, f.Name)
				if st, err := os.Stat(filepath.Join(out, f.Name)); err != nil || st.Size() != f.Size || len(f.SHA256) != 64 {
					t.Errorf("%+v: %v", f, err)
				}
			}
			if want := []string{"LICENSE", "README.md", "config.json", "import.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}; !slices.Equal(names, want) {
				t.Errorf("files %q, want %q", names, want)
			}
		}
	}
}

// families is what makes the tiny model one of each other architecture.
func families() map[string]map[string]any {
	return map[string]map[string]any{
		"MistralForCausalLM": {"architectures": []string{"MistralForCausalLM"}, "model_type": "mistral", "sliding_window": 256},
		"Qwen2ForCausalLM":   {"architectures": []string{"Qwen2ForCausalLM"}, "model_type": "qwen2", "use_sliding_window": false, "sliding_window": 256},
		"Qwen3ForCausalLM":   {"architectures": []string{"Qwen3ForCausalLM"}, "model_type": "qwen3", "head_dim": 48},
		"Gemma3ForCausalLM": {"architectures": []string{"Gemma3ForCausalLM"}, "model_type": "gemma3_text", "hidden_act": nil,
			"hidden_activation": "gelu_pytorch_tanh", "num_hidden_layers": 7, "sliding_window": 128, "rope_theta": 1e6,
			"rope_local_base_freq": 1e4, "query_pre_attn_scalar": 32},
	}
}

// A folder of each other architecture is taken as it is, in shards too; a tensor that
// only another one has, or that is missing here, is not.
func TestFamilies(t *testing.T) {
	for name, change := range families() {
		s := newSource(t, "smollm", change)
		tensors := s.tensors(weights.BF16)
		s.saveShards(tensors)
		d, out := run(t, s.dir, importer.Options{})
		same(t, out, tensors)
		sameConfig(t, s.dir, out)
		if d.Architecture != name || len(d.Warnings) != 0 {
			t.Errorf("%+v", d)
		}
		for i, w := range tensors {
			if len(w.Shape) > 1 {
				continue
			}
			less := newSource(t, "smollm", change).save(slices.Delete(slices.Clone(tensors), i, i+1))
			if _, err := importer.Import(context.Background(), less.dir, filepath.Join(t.TempDir(), "out"), importer.Options{}); err == nil || !strings.Contains(err.Error(), w.Name+" is missing") {
				t.Fatalf("%s without %s: %v", name, w.Name, err)
			}
		}
		more := newSource(t, "smollm", change)
		more.save(append(slices.Clone(tensors), more.tensor("model.layers.0.self_attn.o_proj.bias", weights.F32, 64)))
		if _, err := importer.Import(context.Background(), more.dir, filepath.Join(t.TempDir(), "out"), importer.Options{}); err == nil || !strings.Contains(err.Error(), "o_proj.bias is none") {
			t.Errorf("%s with a bias too many: %v", name, err)
		}
	}
}

// Asked for another number format the matrices are converted, the vectors are not,
// and it is said.
func TestFolderConverted(t *testing.T) {
	s := newSource(t, "smollm", nil)
	tensors := s.tensors(weights.F32)
	s.save(tensors)
	d, out := run(t, s.dir, importer.Options{DType: weights.BF16})
	if len(d.Notes) != 1 || !strings.Contains(d.Notes[0], "rounded from F32 to BF16") || d.DType != weights.BF16 {
		t.Errorf("%+v", d)
	}
	for i, w := range tensors {
		if len(w.Shape) < 2 {
			continue
		}
		values := make([]float32, len(w.Data)/4)
		if err := weights.ToF32(values, weights.F32, w.Data); err != nil {
			t.Fatal(err)
		}
		tensors[i].DType, tensors[i].Data = weights.BF16, make([]byte, 2*len(values))
		if err := weights.FromF32(tensors[i].Data, weights.BF16, values); err != nil {
			t.Fatal(err)
		}
	}
	same(t, out, tensors)
}

// What is redundant is left out.
func TestTiedHeadIsLeftOut(t *testing.T) {
	s := newSource(t, "smollm", nil)
	tensors := s.tensors(weights.BF16)
	s.save(append(slices.Clone(tensors), s.tensor("lm_head.weight", weights.BF16, s.config["vocab_size"].(int), 64),
		s.tensor("model.layers.0.self_attn.rotary_emb.inv_freq", weights.F32, 16)))
	d, out := run(t, s.dir, importer.Options{})
	same(t, out, tensors)
	if len(d.Notes) != 1 || !strings.Contains(d.Notes[0], "lm_head") {
		t.Errorf("notes %q", d.Notes)
	}
}

// A model that cannot be used is refused with the reason, and nothing is left behind.
func TestRefusals(t *testing.T) {
	for want, c := range map[string]struct {
		change      map[string]any
		spoil       func(*source)
		unsupported bool
	}{
		"Phi3ForCausalLM": {change: map[string]any{"architectures": []string{"Phi3ForCausalLM"}}, unsupported: true},
		"without images":  {change: map[string]any{"architectures": []string{"Gemma3ForConditionalGeneration"}}, unsupported: true},
		"use_sliding_window": {change: map[string]any{"architectures": []string{"Qwen2ForCausalLM"}, "use_sliding_window": true,
			"sliding_window": 16, "max_window_layers": 0}, unsupported: true},
		"attention_bias":                            {change: map[string]any{"attention_bias": true}, unsupported: true},
		"quantization_config":                       {change: map[string]any{"quantization_config": map[string]any{"bits": 4}}, unsupported: true},
		`rope_scaling "yarn"`:                       {change: map[string]any{"rope_scaling": map[string]any{"rope_type": "yarn", "factor": 4.0}}, unsupported: true},
		"no config.json":                            {spoil: func(s *source) { os.Remove(filepath.Join(s.dir, "config.json")) }},
		"neither tokenizer.json nor":                {spoil: func(s *source) { os.Remove(filepath.Join(s.dir, "tokenizer.json")) }},
		"tokenizer.model: sentencepiece: no pieces": {spoil: func(s *source) { os.Remove(filepath.Join(s.dir, "tokenizer.json")); s.write("tokenizer.model", nil) }, unsupported: true},
		"pickled": {spoil: func(s *source) {
			os.Remove(filepath.Join(s.dir, weights.SingleName))
			s.write("pytorch_model.bin", nil)
		}, unsupported: true},
		"PEFT adapter": {spoil: func(s *source) {
			os.Remove(filepath.Join(s.dir, weights.SingleName))
			s.write("adapter_config.json", nil)
		}, unsupported: true},
		"neither model.safetensors":    {spoil: func(s *source) { os.Remove(filepath.Join(s.dir, weights.SingleName)) }},
		"model.norm.weight is missing": {spoil: func(s *source) { all := s.tensors(weights.F32); s.save(all[:len(all)-1]) }},
		"model.norm.weight has shape [63]": {spoil: func(s *source) {
			all := s.tensors(weights.F32)
			s.save(append(all[:len(all)-1], s.tensor("model.norm.weight", weights.F32, 63)))
		}},
		"model.norm.weight is F64": {spoil: func(s *source) {
			all := s.tensors(weights.F32)
			s.save(append(all[:len(all)-1], s.tensor("model.norm.weight", "F64", 64)))
		}, unsupported: true},
		"model.layers.0.self_attn.q_norm.weight is none": {spoil: func(s *source) {
			s.save(append(s.tensors(weights.F32), s.tensor("model.layers.0.self_attn.q_norm.weight", weights.F32, 32)))
		}},
		"not a number": {spoil: func(s *source) {
			all := s.tensors(weights.BF16)
			all[0].Data[5], all[0].Data[4] = 0x7f, 0xc0
			s.save(all)
		}},
		"the tokenizer has":                {change: map[string]any{"vocab_size": 100}},
		"truncated":                        {spoil: func(s *source) { os.Truncate(filepath.Join(s.dir, weights.SingleName), 9000) }},
		"neither a folder nor a GGUF file": {spoil: func(s *source) { s.dir = filepath.Join(s.dir, "config.json") }},
	} {
		s := newSource(t, "smollm", nil)
		maps.Copy(s.config, c.change)
		tensors := []weights.Tensor{}
		if !c.unsupported || c.change == nil {
			tensors = s.tensors(weights.F32)
		}
		s.writeJSON("config.json", s.config)
		s.save(tensors)
		if c.spoil != nil {
			c.spoil(s)
		}
		for _, exists := range []bool{false, true} {
			out := filepath.Join(t.TempDir(), "out")
			if exists {
				if err := os.Mkdir(out, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			_, err := importer.Import(context.Background(), s.dir, out, importer.Options{})
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %v, want %q", err, want)
				continue
			}
			var u *importer.UnsupportedError
			if errors.As(err, &u) != c.unsupported {
				t.Errorf("%v: unsupported is %v, want %v", err, !c.unsupported, c.unsupported)
			}
			if left, err := os.ReadDir(out); len(left) > 0 || exists && err != nil || !exists && !os.IsNotExist(err) {
				t.Errorf("%s: %v is left behind, %v", want, left, err)
			}
		}
	}
}

func TestNothingIsOverwritten(t *testing.T) {
	s := newSource(t, "smollm", nil)
	s.save(s.tensors(weights.F32))
	out := t.TempDir()
	if err := os.WriteFile(filepath.Join(out, "mine"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := importer.Import(context.Background(), s.dir, out, importer.Options{}); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("got %v", err)
	}
	if data, err := os.ReadFile(filepath.Join(out, "mine")); err != nil || string(data) != "x" {
		t.Errorf("%q, %v", data, err)
	}
}

func TestCancelledImportLeavesNothing(t *testing.T) {
	s := newSource(t, "smollm", nil)
	s.save(s.tensors(weights.F32))
	ctx, cancel := context.WithCancel(context.Background())
	out := filepath.Join(t.TempDir(), "out")
	_, err := importer.Import(ctx, s.dir, out, importer.Options{Progress: func(int64, int64) { cancel() }})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("the folder is there: %v", err)
	}
}

// A template that cannot be trained with is a warning that names the builtin ones, and so
// is none at all.
func TestTemplates(t *testing.T) {
	for jinja, want := range map[string][2]string{
		"{% for m in messages %}<|im_start|>{{ m.role }}{% endfor %}": {"own", "cannot be trained with"},
		"{{ messages }}": {"own", "alpaca, chatml, llama, zephyr"},
		"":               {"none", "has no chat template"},
	} {
		s := newSource(t, "smollm", nil)
		s.save(s.tensors(weights.BF16))
		s.writeJSON("tokenizer_config.json", map[string]any{"eos_token": "x", "chat_template": jinja})
		d, out := run(t, s.dir, importer.Options{})
		if d.Template != want[0] || len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0], want[1]) {
			t.Errorf("%q: %s %q", jinja, d.Template, d.Warnings)
		}
		if got, _, err := template.Source(out); err != nil || got != jinja {
			t.Errorf("the template became %q, %v", got, err)
		}
	}
}

// What is exported as GGUF and imported again is the same model: every number, every
// id of a hard text, the shape, the template.
func TestGGUFRoundTrip(t *testing.T) {
	llama3 := map[string]any{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
	for _, c := range []struct {
		kind, tokenizer, dtype string
		change                 map[string]any
	}{
		{"F32", "smollm", weights.F32, nil},
		{"F16", "gpt2", weights.F16, nil},
		{"BF16", "qwen2", weights.BF16, map[string]any{"tie_word_embeddings": false}},
		{"F16", "llama2", weights.F16, map[string]any{"bos_token_id": 1}},
		{"F32", "llama3", weights.F32, map[string]any{"rope_scaling": llama3, "rope_theta": 500000.0}},
		{"F32", "smollm", weights.F32, map[string]any{"rope_scaling": map[string]any{"rope_type": "linear", "factor": 2.5}, "num_key_value_heads": 4}},
		{"F32", "smollm", weights.F32, families()["Qwen2ForCausalLM"]},
		{"F16", "smollm", weights.F16, families()["Qwen3ForCausalLM"]},
		{"BF16", "smollm", weights.BF16, families()["Gemma3ForCausalLM"]},
	} {
		s := newSource(t, c.tokenizer, c.change)
		tensors := s.tensors(c.dtype)
		for i, w := range tensors { // a GGUF file has its vectors in F32
			if len(w.Shape) < 2 {
				tensors[i] = s.coarse(w.Name, w.Shape...)
			}
		}
		s.save(tensors)
		file := filepath.Join(t.TempDir(), "x.gguf")
		if err := gguf.Export(context.Background(), s.dir, file, gguf.Options{Type: c.kind, Name: "a model"}); err != nil {
			t.Fatal(err)
		}
		d, out := run(t, file, importer.Options{})
		same(t, out, tensors)
		if d.Kind != "gguf" || d.Name != "a model" || d.DType != c.dtype || d.Template != "chatml" || len(d.Warnings) != 0 || len(d.Notes) != 0 {
			t.Errorf("%+v", d)
		}
		sameConfig(t, s.dir, out)
		sameIDs(t, s.dir, out, c.tokenizer == "qwen2")
	}
}

// sameConfig compares what the engine understands.
func sameConfig(t *testing.T, a, b string) {
	t.Helper()
	var got [2]string
	for i, dir := range []string{a, b} {
		raw, err := os.ReadFile(filepath.Join(dir, "config.json"))
		if err != nil {
			t.Fatal(err)
		}
		config, err := model.ParseConfig(raw)
		if err != nil {
			t.Fatal(err)
		}
		config.TorchDType = ""
		raw, err = json.Marshal(config)
		if err != nil {
			t.Fatal(err)
		}
		got[i] = string(raw)
	}
	if got[0] != got[1] {
		t.Errorf("config\n was %s\n now %s", got[0], got[1])
	}
}

// sameIDs compares ids and decoded texts. GGUF has no word for the NFC of Qwen2, so
// that tokenizer is compared on texts that are in it.
func sameIDs(t *testing.T, a, b string, nfc bool) {
	t.Helper()
	was, err := tokenizer.Load(a)
	if err != nil {
		t.Fatal(err)
	}
	now, err := tokenizer.Load(b)
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range hardTexts(t) {
		if nfc && !norm.NFC.IsNormalString(text) {
			continue
		}
		for _, special := range []bool{false, true} {
			want, got := was.Encode(text, special), now.Encode(text, special)
			if !slices.Equal(got, want) {
				t.Errorf("%q became %v, was %v", text, got, want)
			}
			if w, g := was.Decode(want, true), now.Decode(got, true); w != g {
				t.Errorf("%q is decoded as %q, was %q", text, g, w)
			}
		}
	}
}

func hardTexts(t *testing.T) []string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(testdata, "gpt2.vectors.json"))
	if err != nil {
		t.Fatal(err)
	}
	var vectors []struct{ Text string }
	if err := json.Unmarshal(raw, &vectors); err != nil {
		t.Fatal(err)
	}
	var texts []string
	for _, v := range vectors {
		if v.Text != "" {
			texts = append(texts, v.Text)
		}
	}
	if len(texts) < 100 {
		t.Fatalf("only %d texts", len(texts))
	}
	return texts
}

// A quantized file is decoded to F32, or rounded to what is asked for.
func TestQuantized(t *testing.T) {
	s := newSource(t, "smollm", nil)
	tensors := s.tensors(weights.F32)
	s.save(tensors)
	file := filepath.Join(t.TempDir(), "x.gguf")
	if err := gguf.Export(context.Background(), s.dir, file, gguf.Options{Type: "Q8_0"}); err != nil {
		t.Fatal(err)
	}
	for _, dtype := range []string{weights.F32, weights.BF16, weights.F16} {
		o := importer.Options{DType: dtype}
		if dtype == weights.F32 {
			o.DType = "" // by itself
		}
		d, out := run(t, file, o)
		if d.DType != dtype || d.SourceDType != "Q8_0" || len(d.Notes) != 1 {
			t.Errorf("%+v", d)
		}
		f, err := weights.Open(out)
		if err != nil {
			t.Fatal(err)
		}
		for _, w := range tensors {
			want := make([]float32, len(w.Data)/4)
			if err := weights.ToF32(want, weights.F32, w.Data); err != nil {
				t.Fatal(err)
			}
			got, _, err := f.Float32(w.Name)
			if err != nil {
				t.Fatal(err)
			}
			for i := range want { // half a step of a block whose largest value is some 3
				if math.Abs(float64(got[i]-want[i])) > 0.05 {
					t.Fatalf("%s %s[%d] is %g, was %g", dtype, w.Name, i, got[i], want[i])
				}
			}
		}
		f.Close()
	}
}
