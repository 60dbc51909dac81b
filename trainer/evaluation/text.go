package evaluation

import (
	"strings"
	"unicode"
)

// Normalize prepares an answer for comparison as SQuAD's evaluate-v2.0.py does,
// but for the English articles, which it keeps: lower case, no punctuation,
// single spaces.
func Normalize(text string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(text) {
		switch {
		case unicode.IsPunct(r) || unicode.IsSymbol(r):
		default:
			b.WriteRune(r)
		}
	}
	return strings.Join(strings.Fields(b.String()), " ")
}

// ExactMatch says whether two answers are the same after Normalize.
func ExactMatch(answer, want string) bool { return Normalize(answer) == Normalize(want) }

// TokenF1 is the harmonic mean of precision and recall over the words of two
// answers, counted as bags (SQuAD). Two empty answers agree.
func TokenF1(answer, want string) float64 {
	got, ref := strings.Fields(Normalize(answer)), strings.Fields(Normalize(want))
	if len(got) == 0 || len(ref) == 0 {
		if len(got) == len(ref) {
			return 1
		}
		return 0
	}
	left := make(map[string]int, len(ref))
	for _, w := range ref {
		left[w]++
	}
	common := 0
	for _, w := range got {
		if left[w] > 0 {
			left[w]--
			common++
		}
	}
	return ratio(2*common, len(got)+len(ref))
}
