package judge_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"

	judge "github.com/tunemesh/tunemesh/test/gguf"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/tokenizer/bpetrain"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

const testdata = "../../trainer/tokenizer/testdata"

// llama is a tiny model's config.json. Dimensions are such that no two of them are
// equal, so that a wrong order of dimensions shows.
type llama map[string]any

func tiny(vocab int) llama {
	return llama{
		"architectures": []string{"LlamaForCausalLM"}, "model_type": "llama", "hidden_act": "silu", "torch_dtype": "float32",
		"hidden_size": 96, "intermediate_size": 160, "num_hidden_layers": 3, "num_attention_heads": 6, "num_key_value_heads": 2,
		"head_dim": 32, "vocab_size": vocab, "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
		"tie_word_embeddings": true, "eos_token_id": 0, "bos_token_id": 0,
	}
}

func (l llama) with(key string, value any) llama {
	out := llama{}
	for k, v := range l {
		out[k] = v
	}
	out[key] = value
	return out
}

// folder writes a Hugging Face folder with random weights. They are larger than an
// untrained model's, so that the distributions are far from flat and a mistake
// anywhere moves them.
func folder(t *testing.T, config llama, tokenizerJSON []byte, dtype string) string {
	t.Helper()
	dir := t.TempDir()
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	chatml, err := template.ByName("chatml", "")
	if err != nil {
		t.Fatal(err)
	}
	tokConfig, err := json.Marshal(map[string]any{"eos_token": "<|im_end|>", "chat_template": chatml.Jinja()})
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"config.json": raw, "tokenizer.json": tokenizerJSON, "tokenizer_config.json": tokConfig} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cfg, err := model.ParseConfig(raw)
	if err != nil {
		t.Fatal(err)
	}
	rng := rand.New(rand.NewPCG(7, 11))
	var tensors []weights.Tensor
	for _, spec := range cfg.Tensors() {
		values := make([]float32, spec.Len())
		for i := range values {
			scale := 1.2 / math.Sqrt(float64(spec.Shape[len(spec.Shape)-1]))
			values[i] = float32(rng.NormFloat64() * scale)
			if len(spec.Shape) == 1 {
				values[i] = float32(1 + 0.3*rng.NormFloat64())
				if config["model_type"] == "gemma3_text" { // whose norms add the one themselves
					values[i]--
				}
			}
		}
		width := 2
		if dtype == weights.F32 {
			width = 4
		}
		data := make([]byte, len(values)*width)
		if err := weights.FromF32(data, dtype, values); err != nil {
			t.Fatal(err)
		}
		tensors = append(tensors, weights.Tensor{TensorInfo: weights.TensorInfo{Name: spec.Name, DType: dtype, Shape: spec.Shape}, Data: data})
	}
	if err := weights.WriteFile(filepath.Join(dir, weights.SingleName), tensors, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

func export(t *testing.T, dir, kind string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "model.gguf")
	if err := gguf.Export(context.Background(), dir, out, gguf.Options{Type: kind, Name: "tiny"}); err != nil {
		t.Fatal(err)
	}
	return out
}

func ask(t *testing.T, j *judge.Judge, r judge.Request) *judge.Answer {
	t.Helper()
	a, err := j.Ask(context.Background(), r)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// trained is a tokenizer that bpetrain made, as the bundled base model has one.
func trained(t *testing.T) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(testdata, "corpus.json"))
	if err != nil {
		t.Fatal(err)
	}
	var docs []string
	if err := json.Unmarshal(raw, &docs); err != nil {
		t.Fatal(err)
	}
	r, err := bpetrain.Train(context.Background(), slices.Values(docs), bpetrain.Config{VocabSize: 600})
	if err != nil {
		t.Fatal(err)
	}
	return r.JSON()
}

// hardTexts are those of the reference vectors.
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
		texts = append(texts, v.Text)
	}
	if len(texts) < 100 {
		t.Fatalf("only %d texts", len(texts))
	}
	return texts
}

// llama.cpp gives every text the ids that our tokenizer gives it, for a tokenizer
// of bpetrain and for the kinds that exports know by name.
func TestSameTokens(t *testing.T) {
	j := judge.New(t)
	kinds := map[string][]byte{"bpetrain": trained(t)}
	for _, kind := range []string{"gpt2", "smollm", "llama3", "qwen2"} {
		raw, err := os.ReadFile(filepath.Join(testdata, kind+".tokenizer.json"))
		if err != nil {
			t.Fatal(err)
		}
		kinds[kind] = raw
	}
	for kind, raw := range kinds {
		t.Run(kind, func(t *testing.T) {
			tok, err := tokenizer.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			out := export(t, folder(t, tiny(tok.VocabSize()+5), raw, weights.BF16), "F16")
			texts := hardTexts(t)
			if kind == "qwen2" { // llama.cpp does not normalize
				texts = slices.DeleteFunc(texts, func(s string) bool { return !norm.NFC.IsNormalString(s) })
			}
			checkTokens(t, j, tok, out, texts)
			a := ask(t, j, judge.Request{Model: out})
			end, _ := tok.TokenID("<|im_end|>")
			if a.EOS != end || a.AddsBOS != (len(tok.Prefix()) > 0) {
				t.Errorf("eos %d, want %d; bos is added: %v", a.EOS, end, a.AddsBOS)
			}
			if a.Metadata.Name != "tiny" || a.Metadata.Architecture != "llama" {
				t.Errorf("metadata %+v", a.Metadata)
			}
		})
	}
}

// closed is the SentencePiece-like tokenizer of the vectors with all the merges that
// a file made from a SentencePiece model has: every pair that makes a token, ordered
// by the token.
func closed(t *testing.T) []byte {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(testdata, "llama2.tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
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

// The same for the BPE of SentencePiece, as Llama 2 and TinyLlama have it.
func TestSameTokensSentencePiece(t *testing.T) {
	j := judge.New(t)
	raw := closed(t)
	tok, err := tokenizer.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	out := export(t, folder(t, tiny(tok.VocabSize()), raw, weights.BF16), "F16")
	checkTokens(t, j, tok, out, hardTexts(t))
}

// Whole vocabularies, where TUNEMESH_VECTORS names a folder with some (see
// trainer/tokenizer/testdata/vectors.py).
func TestSameTokensWholeVocabularies(t *testing.T) {
	dir := os.Getenv("TUNEMESH_VECTORS")
	if dir == "" {
		t.Skip("TUNEMESH_VECTORS names no folder with whole vocabularies, which are too large to be kept here")
	}
	j := judge.New(t)
	for _, kind := range []string{"llama2", "llama3"} {
		t.Run(kind, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join(dir, kind+".tokenizer.json"))
			if err != nil {
				t.Skip(err)
			}
			tok, err := tokenizer.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			out := export(t, folder(t, tiny(tok.VocabSize()), raw, weights.BF16), "F16")
			checkTokens(t, j, tok, out, hardTexts(t))
		})
	}
}

// checkTokens compares llama.cpp's ids with those of the tokenizer that was exported,
// and with those of the one that is imported from the file again.
func checkTokens(t *testing.T, j *judge.Judge, tok *tokenizer.Tokenizer, model string, texts []string) {
	t.Helper()
	a := ask(t, j, judge.Request{Model: model, Texts: texts})
	dir := t.TempDir()
	if _, err := gguf.Import(context.Background(), model, dir, gguf.ImportOptions{}); err != nil {
		t.Fatal(err)
	}
	imported, err := tokenizer.Load(dir)
	if err != nil {
		t.Fatal(err)
	}
	for i, text := range texts {
		if want := tok.Encode(text, false); !slices.Equal(a.Texts[i], want) {
			t.Errorf("%q\n llama.cpp %v\n      ours %v", text, a.Texts[i], want)
		}
		if got := imported.Encode(text, false); !slices.Equal(a.Texts[i], got) {
			t.Errorf("%q\n llama.cpp %v\n  imported %v", text, a.Texts[i], got)
		}
	}
}

// At every position llama.cpp and our forward pass agree: the same most likely
// token, and a divergence (KL, in nats) far below what quantization costs.
func TestSameLogits(t *testing.T) {
	j := judge.New(t)
	raw := trained(t)
	tok, err := tokenizer.Parse(raw)
	if err != nil {
		t.Fatal(err)
	}
	base := tiny(tok.VocabSize())
	for _, c := range []struct {
		label  string
		config llama
		dtype  string
		kind   string
		maxKL  float64
	}{
		{"F32", base, weights.F32, "F32", 1e-8},
		{"F16", base, weights.F16, "F16", 1e-4},
		{"BF16", base, weights.BF16, "BF16", 1e-3},
		{"Q8_0", base, weights.F32, "Q8_0", 2e-2},
		{"Q4_K_M", base.with("hidden_size", 256).with("intermediate_size", 512), weights.F32, "Q4_K_M", 1},
		{"Q4_K_M in other blocks", base, weights.F32, "Q4_K_M", 1},
		{"untied", base.with("tie_word_embeddings", false), weights.F32, "F32", 1e-8},
		{"multi-head", base.with("num_key_value_heads", 6), weights.F32, "F32", 1e-8},
		{"linear rope", base.with("rope_scaling", map[string]any{"rope_type": "linear", "factor": 2.0}), weights.F32, "F32", 1e-8},
		{"llama3 rope", base.with("rope_theta", 500000.0).with("rope_scaling", map[string]any{"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
			"high_freq_factor": 4.0, "original_max_position_embeddings": 64}), weights.F32, "F32", 1e-8},
	} {
		t.Run(c.label, func(t *testing.T) {
			dir := folder(t, c.config, raw, c.dtype)
			ids := tok.Encode(strings.Repeat("The mesh places each stage of a job on a node; Übergröße 123 今天 🎉\n", 3), false)
			a := ask(t, j, judge.Request{Model: export(t, dir, c.kind), Sequences: [][]int32{ids}})
			ours := distributions(t, load(t, dir), ids)
			worst, differ := 0.0, 0
			for i, p := range a.Sequences[0] {
				worst = max(worst, divergence(p.Logprobs, ours[i]))
				best := slices.Index(ours[i], slices.Max(ours[i]))
				if int(p.Top) != best {
					differ++
					// Rounding may swap two tokens that are as likely as each other.
					if gap := ours[i][best] - ours[i][p.Top]; !strings.HasPrefix(c.kind, "Q") && gap > math.Sqrt(c.maxKL) {
						t.Errorf("position %d: llama.cpp expects %d, we %d, by %.2g nats", i, p.Top, best, gap)
					}
				}
			}
			if differ > 0 && c.kind == "F32" {
				t.Errorf("%d of %d positions expect another token", differ, len(ids))
			}
			if worst > c.maxKL {
				t.Errorf("worst KL %.3g, want below %.3g", worst, c.maxKL)
			}
			flat := math.Exp(slices.Max(ours[len(ids)-1]))
			if flat < 3/float64(tok.VocabSize()) {
				t.Errorf("the distribution is nearly flat (%.2g at most): the test would not see a mistake", flat)
			}
			t.Logf("%d positions, worst KL %.2g, other top %d", len(ids), worst, differ)
		})
	}
}

// The judge can say no: a file that lacks one tensor is refused.
func TestRefusesABrokenFile(t *testing.T) {
	j := judge.New(t)
	out := export(t, folder(t, tiny(605), trained(t), weights.BF16), "F16")
	f, err := gguf.Open(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	infos := f.Tensors()
	broken := filepath.Join(t.TempDir(), "broken.gguf")
	w, err := gguf.NewWriter(broken, f.Metadata(), infos[:len(infos)-1])
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	for _, info := range infos[:len(infos)-1] {
		r, err := f.Data(info.Name)
		if err != nil {
			t.Fatal(err)
		}
		data := make([]byte, r.Size())
		if _, err := r.ReadAt(data, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.Ask(context.Background(), judge.Request{Model: broken, Sequences: [][]int32{{1}}}); err == nil {
		t.Error("a model without its last norm was loaded")
	} else if testing.Verbose() {
		fmt.Println("refused as it should be:", strings.SplitN(err.Error(), "\n", 2)[0])
	}
}
