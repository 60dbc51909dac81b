package judge_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/text/unicode/norm"

	judge "github.com/tunemesh/tunemesh/test/gguf"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/tokenizer/sentencepiece"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// llama.cpp gives every text the ids that our tokenizer gives it with a Unigram vocabulary,
// the normalization included: of a tokenizer.model without one and with the library's
// nmt_nfkc, and of a tokenizer.json as transformers writes it. Left
// out are a literal mark at the end of a text, which SentencePiece takes for a space and
// removes, and for the tokenizer.json marks that combine (see charsmap of trainer/tokenizer).
func TestSameTokensUnigram(t *testing.T) {
	j := judge.New(t)
	const models = "../../trainer/tokenizer/sentencepiece/testdata"
	for _, kind := range []string{"unigram", "unigram-nfkc", "precompiled"} {
		t.Run(kind, func(t *testing.T) {
			texts := hardTexts(t)
			raw, err := os.ReadFile(filepath.Join(testdata, kind+".tokenizer.json"))
			if kind != "precompiled" {
				raw, err = converted(filepath.Join(models, kind+".model"))
				texts = append(texts, textsOf(t, filepath.Join(models, kind+".vectors.json"))...)
			}
			if err != nil {
				t.Fatal(err)
			}
			tok, err := tokenizer.Parse(raw)
			if err != nil {
				t.Fatal(err)
			}
			texts = slices.DeleteFunc(texts, func(s string) bool {
				return strings.HasSuffix(s, "▁") || kind == "precompiled" && !norm.NFC.IsNormalString(s)
			})
			out := export(t, folder(t, tiny(tok.VocabSize()+5), raw, weights.BF16), "F16")
			checkTokens(t, j, tok, out, texts)
		})
	}
}

func converted(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	m, err := sentencepiece.Read(data)
	if err != nil {
		return nil, err
	}
	return m.TokenizerJSON(sentencepiece.Options{})
}

func textsOf(t *testing.T, path string) []string {
	t.Helper()
	raw, err := os.ReadFile(path)
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
	return texts
}
