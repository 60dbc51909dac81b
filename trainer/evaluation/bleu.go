package evaluation

import (
	"math"
	"regexp"
	"strings"
	"unicode"
)

// BLEUSignature says in sacrebleu's manner what BLEU figures mean (Post 2018, "A
// Call for Clarity in Reporting BLEU Scores"). Those of a whole set use all four
// orders of n-grams as sacrebleu's corpus_bleu does; those of one answer use only
// the orders that it has words for, as its sentence_bleu does (eff:yes).
const BLEUSignature = "nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:tunemesh, checked against sacrebleu 2.6.0"

const bleuOrder = 4

// BLEUCounts is what BLEU is computed from (Papineni et al. 2002). Counts of several
// answers are added up.
type BLEUCounts struct {
	Answer, Want   int            // words
	Correct, Total [bleuOrder]int // n-grams of the answer, those of which the reference has
}

// CountBLEU compares an answer with its reference by sacrebleu's tokenizer 13a.
func CountBLEU(answer, want string) BLEUCounts {
	got, ref := Tokenize13a(answer), Tokenize13a(want)
	c := BLEUCounts{Answer: len(got), Want: len(ref)}
	for n := range bleuOrder {
		c.Total[n] = max(0, len(got)-n)
		have := grams(ref, n+1)
		for g, k := range grams(got, n+1) {
			c.Correct[n] += min(k, have[g])
		}
	}
	return c
}

// Add adds another answer's counts.
func (c *BLEUCounts) Add(o BLEUCounts) {
	c.Answer, c.Want = c.Answer+o.Answer, c.Want+o.Want
	for n := range bleuOrder {
		c.Correct[n] += o.Correct[n]
		c.Total[n] += o.Total[n]
	}
}

// BLEU is the score, from 0 to 100: the geometric mean of the precisions times the
// penalty for brevity. A precision of 0 is smoothed by halving (method 3 of Chen and
// Cherry 2014, NIST's). effective leaves orders out that the answer is too short for.
func (c BLEUCounts) BLEU(effective bool) float64 {
	any := false
	for _, k := range c.Correct {
		any = any || k > 0
	}
	if !any {
		return 0
	}
	halves, order, sum := 1.0, bleuOrder, 0.0
	for n := range bleuOrder {
		if c.Total[n] == 0 {
			if !effective {
				return 0 // the logarithm of a precision of zero
			}
			break
		}
		if effective {
			order = n + 1
		}
		if c.Correct[n] == 0 {
			halves *= 2
			sum += math.Log(100 / (halves * float64(c.Total[n])))
		} else {
			sum += math.Log(100 * float64(c.Correct[n]) / float64(c.Total[n]))
		}
	}
	brevity := 1.0
	if c.Answer < c.Want {
		brevity = math.Exp(1 - float64(c.Want)/float64(c.Answer))
	}
	return brevity * math.Exp(sum/float64(order))
}

// rules13a part punctuation from words, in turn: any but comma, point and dash;
// comma and point unless after a digit; unless before one; a dash after a digit.
var rules13a = []struct {
	find *regexp.Regexp
	put  string
}{
	{regexp.MustCompile("([{-~\\[-` -&(-+:-@/])"), " ${1} "},
	{regexp.MustCompile(`([^0-9])([.,])`), "${1} ${2} "},
	{regexp.MustCompile(`([.,])([^0-9])`), " ${1} ${2}"},
	{regexp.MustCompile(`([0-9])(-)`), "${1} ${2} "},
}

var entities13a = []string{"&quot;", `"`, "&amp;", "&", "&lt;", "<", "&gt;", ">"}

// Tokenize13a is NIST's mteval-v13a tokenizer as sacrebleu has it
// (tokenizers/tokenizer_13a.py, tokenizer_re.py). Case is kept.
func Tokenize13a(text string) []string {
	text = strings.TrimRightFunc(text, pythonSpace)
	text = strings.ReplaceAll(text, "<skipped>", "")
	text = strings.ReplaceAll(text, "-\n", "")
	text = strings.ReplaceAll(text, "\n", " ")
	for i := 0; i < len(entities13a); i += 2 { // one after the other: &amp;lt; becomes <
		text = strings.ReplaceAll(text, entities13a[i], entities13a[i+1])
	}
	text = " " + text + " "
	for _, r := range rules13a {
		text = r.find.ReplaceAllString(text, r.put)
	}
	return strings.FieldsFunc(text, pythonSpace)
}

// pythonSpace is str.isspace: Unicode's spaces and the four separators of ASCII.
func pythonSpace(r rune) bool { return unicode.IsSpace(r) || r >= 0x1c && r <= 0x1f }
