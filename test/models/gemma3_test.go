package models_test

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	judge "github.com/tunemesh/tunemesh/test/gguf"
	"github.com/tunemesh/tunemesh/trainer/importer"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

func gemmaFolder(t testing.TB) string {
	t.Helper()
	gemma3(t)
	return gemmaImport.folder(t)
}

// The import says what the model is.
func TestGemmaImport(t *testing.T) {
	began := time.Now()
	d, err := importer.Import(context.Background(), gemma3(t), filepath.Join(t.TempDir(), "model"), importer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%v: %+v", time.Since(began).Round(time.Millisecond), d)
	if d.Architecture != "Gemma3ForCausalLM" || d.Parameters != 268098176 || d.Context != 32768 || d.DType != "F32" || d.License != "gemma" ||
		d.Template != "none" || d.Tokenizer != "SentencePiece BPE, 262144 tokens" {
		t.Errorf("%+v", d)
	}
	for _, w := range d.Warnings {
		if strings.Contains(w, "GGUF") {
			t.Errorf("tuned models could not be exported: %s", w)
		}
	}
}

// gemmaPrompts: prose, code, other languages; the last is longer than the window
// through which most layers look.
func gemmaPrompts() []string {
	return []string{
		"The capital of France is Paris. The capital of Germany is",
		"def fibonacci(n):\n    if n < 2:\n        return n\n    return",
		"Die Katze sitzt auf der Matte. Le chat est assis sur le tapis. 猫がマットの上に座っている。",
	}
}

// llama.cpp gives every text the ids that the imported tokenizer gives it, by the
// original file and by one that is exported again.
func TestGemmaSameTokens(t *testing.T) {
	path := gemma3(t)
	j := judge.New(t)
	dir := gemmaFolder(t)
	_, tok := load(t, dir)
	exported := filepath.Join(t.TempDir(), "exported.gguf")
	if err := gguf.Export(context.Background(), dir, exported, gguf.Options{Type: "Q8_0"}); err != nil {
		t.Fatal(err)
	}
	texts := append(hardTexts(t), gemmaPrompts()...)
	for _, file := range []string{path, exported} {
		a, err := j.Ask(context.Background(), judge.Request{Model: file, Texts: texts})
		if err != nil {
			t.Fatal(err)
		}
		ids := 0
		for i, text := range texts {
			want := tok.Encode(text, false)
			if ids += len(want); !slices.Equal(a.Texts[i], want) {
				t.Errorf("%s: %q\n llama.cpp %v\n      ours %v", filepath.Base(file), text, a.Texts[i], want)
			}
		}
		if !a.AddsBOS || a.BOS != 2 || a.EOS != 1 {
			t.Errorf("%s: bos %d (added: %v), eos %d", filepath.Base(file), a.BOS, a.AddsBOS, a.EOS)
		}
		t.Logf("%s: %d texts, %d ids", filepath.Base(file), len(texts), ids)
	}
}

// On the dequantized weights llama.cpp and our forward pass expect the same token at
// every position, and nearly the same distribution; from 512 tokens on most layers
// see only some of them.
func TestGemmaSameLogits(t *testing.T) {
	path := gemma3(t)
	j := judge.New(t)
	dir := gemmaFolder(t)
	m, tok := load(t, dir)
	var sequences [][]int32
	for _, p := range gemmaPrompts() {
		sequences = append(sequences, tok.Encode(p, true))
	}
	for _, kind := range []string{"F32", "F16"} {
		t.Run(kind, func(t *testing.T) {
			exact := filepath.Join(t.TempDir(), "x.gguf")
			if err := gguf.Export(context.Background(), dir, exact, gguf.Options{Type: kind}); err != nil {
				t.Fatal(err)
			}
			compareTop(t, j, m, exact, sequences, 0, 1e-3, true)
			if kind == "F32" {
				long := tok.Encode(strings.Repeat("It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness. ", 23), true)
				if len(long) < 550 {
					t.Fatalf("%d tokens are not longer than the window", len(long))
				}
				compareTop(t, j, m, exact, [][]int32{long}, len(long)-24, 1e-3, true)
			}
		})
	}
	t.Run("the original file, with activations in 8 bits", func(t *testing.T) {
		compareTop(t, j, m, path, sequences, 0, 0.1, false)
	})
}

// compareTop is compare for large vocabularies: the divergence is that of the
// distribution over the 2000 tokens that llama.cpp finds most likely and one that
// stands for all others. Positions before from are not compared.
func compareTop(t *testing.T, j *judge.Judge, m *model.Model, path string, sequences [][]int32, from int, maxKL float64, sameTop bool) {
	t.Helper()
	a, err := j.Ask(context.Background(), judge.Request{Model: path, Sequences: sequences, Top: 2000, From: from})
	if err != nil {
		t.Fatal(err)
	}
	positions, differ := 0, 0
	var worstKL, sumKL, worst float64
	for i, ids := range sequences {
		s := m.NewSession()
		for at := range ids {
			next := ids[at : at+1]
			if at < from {
				if at > 0 {
					continue
				}
				next = ids[:from]
				if _, err := s.Append(next); err != nil {
					t.Fatal(err)
				}
				continue
			}
			logits, err := s.Append(next)
			if err != nil {
				t.Fatal(err)
			}
			ours, theirs := logSoftmax(logits), a.Sequences[i][at-from]
			kl, p, q := 0.0, 1.0, 1.0
			for _, b := range theirs.Best {
				kl += math.Exp(b.Logprob) * (b.Logprob - ours[b.ID])
				p, q = p-math.Exp(b.Logprob), q-math.Exp(ours[b.ID])
				worst = max(worst, math.Abs(b.Logprob-ours[b.ID]))
			}
			if p > 1e-9 && q > 0 {
				kl += p * math.Log(p/q)
			}
			positions++
			sumKL, worstKL = sumKL+kl, max(worstKL, kl)
			if top := slices.Index(ours, slices.Max(ours)); top != int(theirs.Top) {
				differ++
				if sameTop {
					t.Errorf("prompt %d, position %d: llama.cpp expects %d, we %d", i, at, theirs.Top, top)
				}
			}
		}
	}
	t.Logf("%d positions: KL mean %.3g, worst %.3g; max |delta log p| %.3g; other top %d", positions, sumKL/float64(positions), worstKL, worst, differ)
	if !(worstKL <= maxKL) {
		t.Errorf("worst KL %.3g, want below %.3g", worstKL, maxKL)
	}
}

// The model goes on as one would.
func TestGemmaGeneratesEnglish(t *testing.T) {
	m, tok := load(t, gemmaFolder(t))
	out, err := m.NewSession().Greedy(tok.Encode("The capital of France is Paris. The capital of Germany is", true), 6, nil)
	if err != nil {
		t.Fatal(err)
	}
	if said := tok.Decode(out, true); !strings.Contains(said, "Berlin") {
		t.Errorf("%q", said)
	}
}

// Each of some steps of LoRA training lowers the loss.
func TestGemmaTrainingLowersTheLoss(t *testing.T) {
	m, tok := load(t, gemmaFolder(t))
	if err := m.AddLoRA(model.LoRAConfig{Rank: 8, Alpha: 16, TargetModules: []string{"all-linear"}}, 1); err != nil {
		t.Fatal(err)
	}
	m.SetRecompute(true)
	var batch []model.Sequence
	for _, text := range []string{"My parcel never arrived. category: delivery", "I was charged twice. category: billing"} {
		ids := tok.Encode(text, true)
		w := make([]float32, len(ids))
		for i := 1; i < len(w); i++ {
			w[i] = 1
		}
		batch = append(batch, model.Sequence{Tokens: ids, Weights: w})
	}
	losses := train(t, m, batch, 3)
	t.Logf("losses %.4f", losses)
	for i := 1; i < len(losses); i++ {
		if losses[i] >= losses[i-1] {
			t.Errorf("step %d raised the loss from %.4f to %.4f", i, losses[i-1], losses[i])
		}
	}
}
