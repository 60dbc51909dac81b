package tokenizer_test

import (
	"os"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/tokenizer/sentencepiece"
)

// A text that follows another has no space of its own before it, also where a token of the
// whole reaches over the border, and where the normalization takes control characters away.
func TestTheNextTextBeginsWithoutASpace(t *testing.T) {
	for _, kind := range []string{"bpe", "bpe-nfkc", "unigram-nfkc", "bpe-nfkc-cf"} {
		data, err := os.ReadFile("sentencepiece/testdata/" + kind + ".model")
		if err != nil {
			t.Fatal(err)
		}
		m, err := sentencepiece.Read(data)
		if err != nil {
			t.Fatal(err)
		}
		file, err := m.TokenizerJSON(sentencepiece.Options{})
		if err != nil {
			t.Fatal(err)
		}
		tok, err := tokenizer.Parse(file)
		if err != nil {
			t.Fatal(err)
		}
		crossed := false
		for _, c := range [][2]string{{"the answer is th", "e mesh"}, {"a job on a no", "de"}, {"the n", "ode"}, {"the mesh ", "and"}, {"the mesh", " and"}} {
			ids := tok.EncodeNext(c[0], c[1])
			first, _ := tok.Token(ids[0])
			if c[1][0] != ' ' && c[0][len(c[0])-1] != ' ' && (first == "▁" || first[0] != c[1][0]) {
				t.Errorf("%s: %q after %q begins with %q", kind, c[1], c[0], first)
			}
			joined := append(tok.Encode(c[0], false), ids...)
			if got, want := tok.Decode(joined, true), c[0]+c[1]; got != want && !(m.RemoveSpaces && c[0] == "the mesh ") {
				t.Errorf("%s: %q and %q became %q", kind, c[0], c[1], got)
			}
			crossed = crossed || len(joined) > len(tok.Encode(c[0]+c[1], false))
		}
		if !crossed && !m.Unigram {
			t.Errorf("%s: no token of these texts reaches over the border", kind)
		}
	}
}
