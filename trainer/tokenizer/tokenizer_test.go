package tokenizer_test

import (
	"encoding/json"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
)

func load(t testing.TB, kind string) *tokenizer.Tokenizer {
	t.Helper()
	tok, err := tokenizer.Load(filepath.Join("testdata", kind+".tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

// Our hand-written splitter finds what the expression of GPT-2 finds.
func TestWordsAreThoseOfTheExpression(t *testing.T) {
	re := regexp2.MustCompile(`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`, 0)
	alphabet := []rune("'stremvld  \n\t\u00a0\u3000aéΣ漢١Ⅷ½_-!😀\u0301\u200d")
	rapid.Check(t, func(rt *rapid.T) {
		s := rapid.OneOf(rapid.StringOf(rapid.SampledFrom(alphabet)), rapid.String()).Draw(rt, "s")
		var want []string
		for m, err := re.FindStringMatch(s); m != nil; m, err = re.FindNextMatch(m) {
			if err != nil {
				rt.Fatal(err)
			}
			want = append(want, m.String())
		}
		if got := tokenizer.Words(s); !slices.Equal(got, want) {
			rt.Fatalf("%q: got %q, want %q", s, got, want)
		}
	})
}

// Text of a byte-level tokenizer survives, whatever it is; what is not UTF-8 comes
// back as U+FFFD.
func FuzzByteLevelRoundTrip(f *testing.F) {
	var toks []*tokenizer.Tokenizer
	for _, kind := range []string{"gpt2", "llama3", "smollm"} {
		toks = append(toks, load(f, kind))
	}
	for _, s := range []string{"", "Hello, world!", " \n\n a\tb ", "<|im_start|>user\n<|im_end|>", "日本語 🎉", "\xff\x00\xed\xa0\x80", "'s't're"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want := s
		if !utf8.ValidString(s) {
			want = strings.ToValidUTF8(s, "\uFFFD")
		}
		for _, tok := range toks {
			ids := tok.Encode(s, false)
			if got := tok.Decode(ids, false); got != want {
				t.Fatalf("%q came back as %q by %v", s, got, ids)
			}
		}
	})
}

// A tokenizer.json of random bytes loads or fails, and what loads can be used.
func FuzzParse(f *testing.F) {
	for _, kind := range []string{"gpt2", "llama2", "uncased", "clip"} {
		raw, err := os.ReadFile(filepath.Join("testdata", kind+".tokenizer.json"))
		if err != nil {
			f.Fatal(err)
		}
		// Without most of the vocabulary, so that the fuzzer reaches the rest.
		var file map[string]any
		if err := json.Unmarshal(raw, &file); err != nil {
			f.Fatal(err)
		}
		m := file["model"].(map[string]any)
		vocab := map[string]any{}
		for token, id := range m["vocab"].(map[string]any) {
			if id.(float64) < 20 {
				vocab[token] = id
			}
		}
		m["vocab"], m["merges"] = vocab, []any{}
		if raw, err = json.Marshal(file); err != nil {
			f.Fatal(err)
		}
		f.Add(raw, "some text 12")
	}
	f.Add([]byte(`{"pre_tokenizer":{"type":"Metaspace"},"model":{"type":"Unigram","unk_id":0,"byte_fallback":true,"vocab":[["<unk>",0],["▁",-2],["a",-3.5],["▁a",-1],["<0x41>",0]]}}`), "a A é a")
	f.Fuzz(func(t *testing.T, raw []byte, text string) {
		if strings.Contains(string(raw), "Regex") {
			t.Skip() // a hostile expression may take for ever; a stage has its time limit for that
		}
		tok, err := tokenizer.Parse(raw)
		if err != nil {
			return
		}
		for _, id := range tok.Encode(text, true) {
			if id < 0 || int(id) >= tok.VocabSize() {
				t.Fatalf("id %d of %d", id, tok.VocabSize())
			}
		}
		tok.Decode(tok.Encode(text, true), true)
	})
}

// Words longer than the merges are looked through for take another way, which has
// to come to the same end.
func TestLongWordsMergeAsShortOnes(t *testing.T) {
	tok := load(t, "gpt2")
	rng := rand.New(rand.NewPCG(1, 1))
	merges := map[[2]string]int{}
	for rank, m := range tok.Merges() {
		merges[m] = rank
	}
	for range 200 {
		b := make([]byte, 20+rng.IntN(60))
		for i := range b {
			b[i] = "abcdehinorst"[rng.IntN(12)]
		}
		var want []string // the definition, step by step
		for _, c := range b {
			want = append(want, string(c))
		}
		for {
			best := -1
			for i := 0; i+1 < len(want); i++ {
				rank, ok := merges[[2]string{want[i], want[i+1]}]
				if ok && (best < 0 || rank < merges[[2]string{want[best], want[best+1]}]) {
					best = i
				}
			}
			if best < 0 {
				break
			}
			want = slices.Replace(want, best, best+2, want[best]+want[best+1])
		}
		if got := spell(tok, tok.Encode(string(b), false)); !slices.Equal(got, want) {
			t.Fatalf("%s: got %q, want %q", b, got, want)
		}
	}
}

func TestConcurrentUse(t *testing.T) {
	tok := load(t, "llama3")
	text := strings.Repeat("The mesh places each stage; 今天 🎉 12345\n", 5)
	want := tok.Encode(text, true)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if got := tok.Encode(text, true); !slices.Equal(got, want) {
					t.Errorf("got %v", got)
				}
				tok.Decode(want, true)
			}
		})
	}
	wg.Wait()
}

func TestAccess(t *testing.T) {
	tok := load(t, "llama3")
	id, ok := tok.TokenID("<|im_end|>")
	if !ok || id != 3 {
		t.Errorf("<|im_end|> is %d %v", id, ok)
	}
	if s, ok := tok.Token(id); !ok || s != "<|im_end|>" {
		t.Errorf("%d is %q", id, s)
	}
	if _, ok := tok.TokenID("no such token"); ok {
		t.Error("a token that is not there has an id")
	}
	if _, ok := tok.Token(-1); ok {
		t.Error("-1 is a token")
	}
	if got := tok.Prefix(); !slices.Equal(got, []int32{0}) || len(tok.Suffix()) != 0 {
		t.Errorf("prefix %v, suffix %v", got, tok.Suffix())
	}
	if v := tok.Vocab(); len(v) != tok.VocabSize() || v[0] != "<|begin|>" {
		t.Errorf("vocabulary of %d, size %d", len(v), tok.VocabSize())
	}
	if !tok.ByteLevel() || load(t, "llama2").ByteLevel() {
		t.Error("byte level is mistaken")
	}
	if got := load(t, "llama3").Decode([]int32{0, 99999, -5, 3}, true); got != "" {
		t.Errorf("special and unknown ids decode to %q", got)
	}
	if _, err := tokenizer.Load("testdata"); err == nil {
		t.Error("a folder without tokenizer.json was loaded")
	}
}

// What we would get wrong is refused when it is loaded, by name.
func TestUnknownComponentsAreRefused(t *testing.T) {
	const model = `"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}`
	for want, file := range map[string]string{
		"":                      `{` + model + `}`,
		"vocabulary is empty":   `{"model":{"type":"Unigram","vocab":[]}}`,
		"token and its score":   `{"model":{"type":"Unigram","vocab":[["a"]]}}`,
		"unk_id is 7":           `{"model":{"type":"Unigram","unk_id":7,"vocab":[["a",-1]]}}`,
		`model "WordPiece"`:     `{"model":{"type":"WordPiece","vocab":{"a":0}}}`,
		"no model":              `{}`,
		"is empty":              `{"model":{"type":"BPE","vocab":{},"merges":[]}}`,
		"not in the vocabulary": `{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b"]}}`,
		"share the id":          `{"model":{"type":"BPE","vocab":{"a":0,"b":0},"merges":[]}}`,
		"outside":               `{"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}}`,
		"two tokens":            `{"model":{"type":"BPE","vocab":{"a":0},"merges":["a b c"]}}`,
		"unk_token":             `{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"unk_token":"u"}}`,
		"pair of strings":       `{"model":{"type":"BPE","vocab":{"a":0},"merges":[["a"]]}}`,
		`normalizer "Nmt"`:      `{"normalizer":{"type":"Nmt"},` + model + `}`,
		`pre-tokenizer "Uni"`:   `{"pre_tokenizer":{"type":"Uni"},` + model + `}`,
		`decoder "CTC"`:         `{"decoder":{"type":"CTC"},` + model + `}`,
		`post-processor "X"`:    `{"post_processor":{"type":"X"},` + model + `}`,
		"behavior":              `{"pre_tokenizer":{"type":"Split","pattern":{"String":"a"},"behavior":"Odd"},` + model + `}`,
		"regular expression":    `{"pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated"},` + model + `}`,
		"neither a String":      `{"pre_tokenizer":{"type":"Split","pattern":{},"behavior":"Isolated"},` + model + `}`,
		"has the id 0":          `{"added_tokens":[{"id":0,"content":"x"}],` + model + `}`,
		"no token has the id":   `{"post_processor":{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"s"}},{"Sequence":{"id":"A"}}],"special_tokens":{"s":{"ids":[77]}}},` + model + `}`,
		"leaves the text out":   `{"post_processor":{"type":"TemplateProcessing","single":[]},` + model + `}`,
		"invalid character":     `{`[:0] + `x`,
	} {
		_, err := tokenizer.Parse([]byte(file))
		if want == "" && err != nil {
			t.Errorf("the good one of these: %v", err)
		}
		if want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", file, err, want)
		}
	}
}

func BenchmarkEncode(b *testing.B) {
	text := strings.Repeat("The mesh places each stage of a job on a node that can run it, and the node reports what it did.\n", 100)
	for _, kind := range []string{"gpt2", "llama3", "llama2"} {
		b.Run(kind, func(b *testing.B) {
			tok := load(b, kind)
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				tok.Encode(text, false)
			}
		})
	}
}
