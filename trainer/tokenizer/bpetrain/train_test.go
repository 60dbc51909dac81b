package bpetrain_test

import (
	"context"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/tokenizer/bpetrain"
)

// corpus is the text on which the original trained the tokenizers of the vectors.
func corpus(t testing.TB) []string {
	t.Helper()
	raw, err := os.ReadFile("../testdata/corpus.json")
	if err != nil {
		t.Fatal(err)
	}
	var docs []string
	if err := json.Unmarshal(raw, &docs); err != nil {
		t.Fatal(err)
	}
	return docs
}

func train(t testing.TB, docs []string, cfg bpetrain.Config) *bpetrain.Result {
	t.Helper()
	r, err := bpetrain.Train(context.Background(), slices.Values(docs), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// From the same corpus we learn the same vocabulary and the same merges, in the
// same order, as the original's trainer.
func TestLearnsWhatTheOriginalLearns(t *testing.T) {
	want, err := tokenizer.Load("../testdata/gpt2.tokenizer.json")
	if err != nil {
		t.Fatal(err)
	}
	got := train(t, corpus(t), bpetrain.Config{VocabSize: 500, MinFrequency: 1, MaxTokenBytes: 1 << 20})
	if !slices.Equal(got.Tokens, want.Vocab()) {
		t.Errorf("vocabulary differs:\n got %q\nwant %q", got.Tokens, want.Vocab())
	}
	if !slices.Equal(got.Merges, want.Merges()) {
		t.Errorf("merges differ:\n got %q\nwant %q", got.Merges, want.Merges())
	}
}

// The file loads, and encodes as the tokenizer that was learned.
func TestFileLoads(t *testing.T) {
	r := train(t, corpus(t), bpetrain.Config{VocabSize: 400})
	path := filepath.Join(t.TempDir(), "tokenizer.json")
	if err := r.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	tok, err := tokenizer.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if !tok.ByteLevel() || tok.VocabSize() != 400 || !slices.Equal(tok.Merges(), r.Merges) || !slices.Equal(tok.Vocab(), r.Tokens) {
		t.Errorf("the file holds another tokenizer")
	}
	for id, s := range bpetrain.DefaultSpecial() {
		if ids := tok.Encode(s, false); !slices.Equal(ids, []int32{int32(id)}) {
			t.Errorf("%s encodes to %v, want its id %d", s, ids, id)
		}
	}
	for _, doc := range corpus(t) {
		ids := tok.Encode(doc, false)
		if tok.Decode(ids, false) != doc {
			t.Errorf("%q does not survive", doc)
		}
		if len(ids) >= len(doc) {
			t.Errorf("%q takes %d ids: nothing was learned", doc, len(ids))
		}
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("%v files beside it, %v", left, err)
	}
}

// The order of the documents, and the run, make no difference.
func TestDeterministic(t *testing.T) {
	docs := corpus(t)
	want := string(train(t, docs, bpetrain.Config{VocabSize: 450}).JSON())
	rng := rand.New(rand.NewPCG(1, 2))
	for range 5 {
		rng.Shuffle(len(docs), func(i, j int) { docs[i], docs[j] = docs[j], docs[i] })
		if got := string(train(t, docs, bpetrain.Config{VocabSize: 450}).JSON()); got != want {
			t.Fatal("another order of the documents gave another tokenizer")
		}
	}
}

// A plain reading of the algorithm: count all pairs anew for each merge.
func TestEqualsThePlainAlgorithm(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		docs := rapid.SliceOfN(rapid.StringMatching(`[abc ]{0,30}`), 1, 5).Draw(rt, "docs")
		cfg := bpetrain.Config{VocabSize: 290, MinFrequency: rapid.IntRange(1, 3).Draw(rt, "min"), MaxTokenBytes: rapid.IntRange(2, 8).Draw(rt, "max")}
		r, err := bpetrain.Train(context.Background(), slices.Values(docs), cfg)
		if err != nil {
			rt.Fatal(err)
		}
		if want := plain(docs, cfg); !slices.Equal(r.Merges, want) {
			rt.Fatalf("got %q, want %q", r.Merges, want)
		}
	})
}

func plain(docs []string, cfg bpetrain.Config) [][2]string {
	id := map[string]int{}
	for i, tok := range bpetrainAlphabet(cfg) {
		id[tok] = i
	}
	var words [][]string
	for _, d := range docs {
		for _, w := range tokenizer.Words(d) {
			var syms []string
			for _, c := range w {
				if c == ' ' {
					c = 'Ġ'
				}
				syms = append(syms, string(c))
			}
			words = append(words, syms)
		}
	}
	var merges [][2]string
	for len(id) < cfg.VocabSize {
		count := map[[2]string]int{}
		for _, w := range words {
			for i := 0; i+1 < len(w); i++ {
				count[[2]string{w[i], w[i+1]}]++
			}
		}
		var best [2]string
		for p, n := range count {
			if n < cfg.MinFrequency || len([]rune(p[0]+p[1])) > cfg.MaxTokenBytes {
				continue
			}
			less := n == count[best] && (id[p[0]] < id[best[0]] || id[p[0]] == id[best[0]] && id[p[1]] < id[best[1]])
			if best[0] == "" || n > count[best] || less {
				best = p
			}
		}
		if best[0] == "" {
			break
		}
		merges = append(merges, best)
		if _, ok := id[best[0]+best[1]]; !ok {
			id[best[0]+best[1]] = len(id)
		}
		for k, w := range words {
			var out []string
			for i := 0; i < len(w); i++ {
				if i+1 < len(w) && w[i] == best[0] && w[i+1] == best[1] {
					out = append(out, w[i]+w[i+1])
					i++
				} else {
					out = append(out, w[i])
				}
			}
			words[k] = out
		}
	}
	return merges
}

// bpetrainAlphabet is the vocabulary before the first merge.
func bpetrainAlphabet(cfg bpetrain.Config) []string {
	cfg.VocabSize = 259
	r, err := bpetrain.Train(context.Background(), slices.Values([]string{}), cfg)
	if err != nil {
		panic(err)
	}
	return r.Tokens
}

func TestBadConfigsAreRefused(t *testing.T) {
	for want, cfg := range map[string]bpetrain.Config{
		"too small":     {VocabSize: 258},
		"at least":      {MinFrequency: -1},
		"special token": {Special: []string{"<a>", "<a>"}},
	} {
		if _, err := bpetrain.Train(context.Background(), slices.Values([]string{"x"}), cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", cfg, err, want)
		}
	}
}

func TestStopsWithTheContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := bpetrain.Train(ctx, slices.Values(corpus(t)), bpetrain.Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want canceled", err)
	}
}
