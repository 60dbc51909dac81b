package tokenizer_test

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/tokenizer/sentencepiece"
)

// converted reads a model of SentencePiece and what it is as a tokenizer.json.
func converted(t *testing.T, kind string) (m *sentencepiece.Model, file []byte, tok *tokenizer.Tokenizer) {
	t.Helper()
	data, err := os.ReadFile("sentencepiece/testdata/" + kind + ".model")
	if err == nil {
		m, err = sentencepiece.Read(data)
	}
	if err == nil {
		file, err = m.TokenizerJSON(sentencepiece.Options{})
	}
	if err == nil {
		tok, err = tokenizer.Parse(file)
	}
	if err != nil {
		t.Fatal(err)
	}
	return m, file, tok
}

// A text that follows another has no space of its own before it, also where a token of the
// whole reaches over the border, and where the normalization takes control characters away.
func TestTheNextTextBeginsWithoutASpace(t *testing.T) {
	for _, kind := range []string{"bpe", "bpe-nfkc", "unigram-nfkc", "bpe-nfkc-cf"} {
		m, _, tok := converted(t, kind)
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

// Extra spaces are found by hand where the file has the usual expressions; an expression that
// means the same and is not known by hand finds the same.
func TestSpacesAreFoundAsTheExpressionsFindThem(t *testing.T) {
	for _, kind := range []string{"unigram-nfkc", "bpe-unk"} {
		_, file, quick := converted(t, kind)
		for _, expr := range []string{" {2,}", `\\A | \\z`, `▁+\\z`} {
			if !bytes.Contains(file, []byte(`"Regex":"`+expr+`"`)) {
				t.Fatalf("%s: no %s", kind, expr)
			}
			file = bytes.Replace(file, []byte(`"Regex":"`+expr+`"`), []byte(`"Regex":"(?:`+expr+`)"`), 1)
		}
		slow, err := tokenizer.Parse(file)
		if err != nil {
			t.Fatal(err)
		}
		pieces := rapid.SampledFrom([]string{" ", " ", "  ", "▁", "a", "the", "\n", "\t", "é", "\u3000"})
		rapid.Check(t, func(t *rapid.T) {
			text := strings.Join(rapid.SliceOfN(pieces, 0, 12).Draw(t, "text"), "")
			if got, want := quick.Encode(text, false), slow.Encode(text, false); !slices.Equal(got, want) {
				t.Fatalf("%q: %v, by the expressions %v", text, got, want)
			}
		})
	}
}
