package importer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/importer"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

const testdata = "../tokenizer/testdata"

// source is a Hugging Face folder in the making.
type source struct {
	t      *testing.T
	dir    string
	config map[string]any
	rng    *rand.Rand
}

// newSource has a tiny model with the tokenizer of the vectors called kind.
func newSource(t *testing.T, kind string, changes map[string]any) *source {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(testdata, kind+".tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	if kind == "llama2" {
		raw = closed(t, raw)
	}
	tok, err := tokenizer.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	ends := []int32{1} // eos, and the end of a turn where there is one
	for _, end := range []string{"<|eot_id|>", "<|im_end|>"} {
		if id, ok := tok.TokenID(end); ok && id != 1 && len(ends) == 1 {
			ends = append(ends, id)
		}
	}
	s := &source{t: t, dir: t.TempDir(), rng: rand.New(rand.NewPCG(1, 2))}
	s.config = map[string]any{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "hidden_act": "silu", "hidden_size": 64, "intermediate_size": 96,
		"num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "vocab_size": tok.VocabSize() + 3,
		"max_position_embeddings": 1024, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true, "bos_token_id": 0, "eos_token_id": ends,
	}
	maps.Copy(s.config, changes)
	s.write("tokenizer.json", raw)
	eos, _ := tok.Token(1)
	chatml, err := template.ByName("chatml", "")
	if err != nil {
		t.Fatal(err)
	}
	s.writeJSON("tokenizer_config.json", map[string]any{"eos_token": eos, "chat_template": chatml.Jinja()})
	s.writeJSON("config.json", s.config)
	return s
}

// closed gives a tokenizer of the SentencePiece kind every merge that one made from a
// SentencePiece model has, in the order of the tokens.
func closed(t *testing.T, raw []byte) []byte {
	t.Helper()
	var file map[string]any
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	var merges [][2]string
	seen := map[string]bool{}
	for _, m := range tok.Merges() {
		whole := m[0] + m[1]
		if seen[whole] {
			continue
		}
		seen[whole] = true
		for i := range whole {
			_, left := tok.TokenID(whole[:i])
			_, right := tok.TokenID(whole[i:])
			if i > 0 && left && right {
				merges = append(merges, [2]string{whole[:i], whole[i:]})
			}
		}
	}
	file["model"].(map[string]any)["merges"] = merges
	if raw, err = json.Marshal(file); err != nil {
		t.Fatal(err)
	}
	return raw
}

func (s *source) write(name string, data []byte) {
	s.t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), data, 0o644); err != nil {
		s.t.Fatal(err)
	}
}

func (s *source) writeJSON(name string, v any) {
	s.t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		s.t.Fatal(err)
	}
	s.write(name, raw)
}

// tensors are random ones of the config's shapes.
func (s *source) tensors(dtype string) []weights.Tensor {
	s.t.Helper()
	raw, err := json.Marshal(s.config)
	if err != nil {
		s.t.Fatal(err)
	}
	config, err := model.ParseConfig(raw)
	if err != nil {
		s.t.Fatal(err)
	}
	var out []weights.Tensor
	for _, spec := range config.Tensors() {
		out = append(out, s.tensor(spec.Name, dtype, spec.Shape...))
	}
	return out
}

func (s *source) tensor(name, dtype string, shape ...int) weights.Tensor {
	s.t.Helper()
	values := make([]float32, (model.TensorSpec{Shape: shape}).Len())
	for i := range values {
		values[i] = float32(s.rng.NormFloat64())
	}
	info := weights.TensorInfo{Name: name, DType: dtype, Shape: shape}
	size, err := info.Bytes()
	if err != nil {
		s.t.Fatal(err)
	}
	data := make([]byte, size)
	if dtype == weights.F32 || dtype == weights.F16 || dtype == weights.BF16 {
		if err := weights.FromF32(data, dtype, values); err != nil {
			s.t.Fatal(err)
		}
	}
	return weights.Tensor{TensorInfo: info, Data: data}
}

// coarse is a vector of numbers that have room for one more, which GGUF adds to the
// norms of Gemma.
func (s *source) coarse(name string, shape ...int) weights.Tensor {
	s.t.Helper()
	w := s.tensor(name, weights.F32, shape...)
	values := make([]float32, len(w.Data)/4)
	if err := weights.ToF32(values, weights.F32, w.Data); err != nil {
		s.t.Fatal(err)
	}
	for i, v := range values {
		values[i] = float32(math.Round(float64(v)*4096) / 4096)
	}
	if err := weights.FromF32(w.Data, weights.F32, values); err != nil {
		s.t.Fatal(err)
	}
	return w
}

func (s *source) save(tensors []weights.Tensor) *source {
	s.t.Helper()
	if err := weights.WriteFile(filepath.Join(s.dir, weights.SingleName), tensors, nil); err != nil {
		s.t.Fatal(err)
	}
	return s
}

// saveShards writes the tensors in two files and an index.
func (s *source) saveShards(tensors []weights.Tensor) *source {
	s.t.Helper()
	index := map[string]string{}
	for i, name := range []string{"model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"} {
		part := tensors[i*len(tensors)/2 : (i+1)*len(tensors)/2]
		if err := weights.WriteFile(filepath.Join(s.dir, name), part, nil); err != nil {
			s.t.Fatal(err)
		}
		for _, t := range part {
			index[t.Name] = name
		}
	}
	s.writeJSON(weights.IndexName, map[string]any{"weight_map": index})
	return s
}

func run(t *testing.T, from string, o importer.Options) (importer.Description, string) {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	d, err := importer.Import(context.Background(), from, out, o)
	if err != nil {
		t.Fatal(err)
	}
	return d, out
}

// same says whether the folder has exactly these tensors.
func same(t *testing.T, dir string, want []weights.Tensor) {
	t.Helper()
	f, err := weights.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := f.Names(); len(got) != len(want) {
		t.Errorf("%d tensors, want %d", len(got), len(want))
	}
	for _, w := range want {
		dtype, shape, data, err := f.Tensor(w.Name)
		if err != nil {
			t.Error(err)
		} else if dtype != w.DType || !slices.Equal(shape, w.Shape) || !bytes.Equal(data, w.Data) {
			t.Errorf("%s: %s %v, want %s %v; same bytes: %v", w.Name, dtype, shape, w.DType, w.Shape, bytes.Equal(data, w.Data))
		}
	}
}
