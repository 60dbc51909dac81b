package evaluation_test

import (
	"encoding/json"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/evaluation"
)

// reference is what testdata/reference.py recorded.
type reference struct {
	Pairs []struct {
		Answer, Want string
		Rouge        [4]float64
		Stemmed      [4]float64 `json:"rouge_stemmed"`
		BLEU         float64
		AllOrders    float64  `json:"bleu_all_orders"`
		Tokens       []string `json:"tokens_13a"`
	}
	Corpora []struct {
		From, To  int
		BLEU      float64
		Signature string
	}
	Stems           map[string]string
	Classifications []struct {
		Labels                           int
		Truth, Predicted                 []int
		Accuracy, Macro, Micro, Weighted float64
		Confusion                        [][]int
	}
}

func recorded(t *testing.T) reference {
	t.Helper()
	raw, err := os.ReadFile("testdata/reference.json")
	if err != nil {
		t.Fatal(err)
	}
	var r reference
	if err := json.Unmarshal(raw, &r); err != nil {
		t.Fatal(err)
	}
	if len(r.Pairs) < 50 || len(r.Corpora) == 0 || len(r.Stems) < 80 || len(r.Classifications) == 0 {
		t.Fatalf("only %d pairs, %d corpora, %d stems, %d classifications", len(r.Pairs), len(r.Corpora), len(r.Stems), len(r.Classifications))
	}
	return r
}

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, math.Abs(b)) }

func TestRougeIsRougeScores(t *testing.T) {
	for _, p := range recorded(t).Pairs {
		for name, c := range map[string]struct {
			words evaluation.Words
			want  [4]float64
		}{"plain": {evaluation.RougeWords, p.Rouge}, "stemmed": {evaluation.RougeStems, p.Stemmed}} {
			r := evaluation.RougeOf(p.Answer, p.Want, c.words)
			for i, got := range []float64{r.Rouge1, r.Rouge2, r.RougeL, r.RougeLsum} {
				if !near(got, c.want[i]) {
					t.Errorf("%s, ROUGE %d of %q for %q = %v, rouge_score says %v", name, i, p.Answer, p.Want, got, c.want[i])
				}
			}
		}
	}
}

func TestStemsAreNLTKs(t *testing.T) {
	for word, want := range recorded(t).Stems {
		if got := evaluation.Stem(word); got != want {
			t.Errorf("Stem(%q) = %q, NLTK says %q", word, got, want)
		}
	}
}

func TestBLEUIsSacrebleus(t *testing.T) {
	r := recorded(t)
	for _, p := range r.Pairs {
		if got := evaluation.Tokenize13a(p.Answer); !slices.Equal(got, p.Tokens) {
			t.Errorf("Tokenize13a(%q) = %q, sacrebleu says %q", p.Answer, got, p.Tokens)
		}
		c := evaluation.CountBLEU(p.Answer, p.Want)
		if got := c.BLEU(true); !near(got, p.BLEU) {
			t.Errorf("BLEU of %q for %q = %v, sacrebleu says %v", p.Answer, p.Want, got, p.BLEU)
		}
		if got := c.BLEU(false); !near(got, p.AllOrders) {
			t.Errorf("BLEU of all orders of %q for %q = %v, sacrebleu says %v", p.Answer, p.Want, got, p.AllOrders)
		}
	}
	for _, k := range r.Corpora {
		var c evaluation.BLEUCounts
		for _, p := range r.Pairs[k.From:k.To] {
			c.Add(evaluation.CountBLEU(p.Answer, p.Want))
		}
		if got := c.BLEU(false); !near(got, k.BLEU) {
			t.Errorf("BLEU of pairs %d to %d = %v, sacrebleu says %v", k.From, k.To, got, k.BLEU)
		}
		settings, _, _ := strings.Cut(evaluation.BLEUSignature, "|version")
		if theirs, _, _ := strings.Cut(k.Signature, "|version"); settings != theirs {
			t.Errorf("signature %q, sacrebleu's is %q", settings, theirs)
		}
	}
}

func TestLargerClassificationsAreScikitLearnsToo(t *testing.T) {
	for _, c := range recorded(t).Classifications {
		labels := make([]string, c.Labels)
		for i := range labels {
			labels[i] = string(rune('a' + i))
		}
		r, err := evaluation.Classify(labels, c.Truth, c.Predicted)
		if err != nil {
			t.Fatal(err)
		}
		if !near(r.Accuracy, c.Accuracy) || !near(r.MacroF1, c.Macro) || !near(r.MicroF1, c.Micro) || !near(r.WeightedF1, c.Weighted) || !reflect.DeepEqual(r.Confusion, c.Confusion) {
			t.Errorf("%d classes: %+v, want %+v", c.Labels, r, c)
		}
	}
}

func TestAnswersScoresKeepTheirBounds(t *testing.T) {
	text := rapid.StringOfN(rapid.SampledFrom([]rune("ab, .-1天é\n")), 0, 40, -1)
	rapid.Check(t, func(t *rapid.T) {
		a, b := text.Draw(t, "answer"), text.Draw(t, "want")
		for name, words := range map[string]evaluation.Words{"rouge_score": evaluation.RougeWords, "unicode": evaluation.UnicodeWords} {
			r, back := evaluation.RougeOf(a, b, words), evaluation.RougeOf(b, a, words)
			for _, v := range []float64{r.Rouge1, r.Rouge2, r.RougeL, r.RougeLsum} {
				if !(v >= 0 && v <= 1) {
					t.Fatalf("%s: %+v", name, r)
				}
			}
			if r.RougeL > r.Rouge1+1e-12 { // a common subsequence is a common bag
				t.Fatalf("%s: ROUGE-L above ROUGE-1: %+v", name, r)
			}
			if r.Rouge1 != back.Rouge1 || r.Rouge2 != back.Rouge2 || r.RougeL != back.RougeL {
				t.Fatalf("%s: F1 depends on the direction: %+v and %+v", name, r, back)
			}
			if same := evaluation.RougeOf(a, a, words); len(words(a)) > 0 && (same.Rouge1 != 1 || same.RougeL != 1 || same.RougeLsum != 1) {
				t.Fatalf("%s: a text and itself: %+v", name, same)
			}
		}
		if v := evaluation.CountBLEU(a, b).BLEU(true); !(v >= 0 && v <= 100+1e-9) {
			t.Fatalf("BLEU %v", v)
		}
		if n := len(evaluation.Tokenize13a(a)); n > 0 {
			if v := evaluation.CountBLEU(a, a).BLEU(true); !near(v, 100) {
				t.Fatalf("BLEU of a text and itself is %v", v)
			}
		}
	})
}
