package evaluation

import (
	"slices"
	"strings"
	"unicode"
)

// Rouge are the F1 of ROUGE (Lin 2004, "ROUGE: A Package for Automatic Evaluation
// of Summaries"): common n-grams of one and two words, the longest common
// subsequence of the whole texts, and of their lines (Lsum). The figures are those
// of Google's rouge_score 0.1.2 (rouge_scorer.py), for which two empty texts have
// nothing in common.
type Rouge struct {
	Rouge1    float64 `json:"rouge_1"`
	Rouge2    float64 `json:"rouge_2"`
	RougeL    float64 `json:"rouge_l"`
	RougeLsum float64 `json:"rouge_lsum"`
}

// Words cuts a text into the words that ROUGE counts.
type Words func(text string) []string

// RougeWords is rouge_score's default tokenizer (tokenize.py): lower case, every
// run of other characters than a-z and 0-9 parts two words. Letters with accents
// and other scripts are lost in it.
func RougeWords(text string) []string {
	return strings.FieldsFunc(strings.ToLower(text), func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') })
}

// RougeStems are RougeWords with the words of more than three letters stemmed, as
// rouge_score does with use_stemmer=True.
func RougeStems(text string) []string {
	words := RougeWords(text)
	for i, w := range words {
		if len(w) > 3 {
			words[i] = Stem(w)
		}
	}
	return words
}

// UnicodeWords are the words of any script that parts them by spaces: what
// RougeWords would lose. A Chinese or Japanese character is a word.
func UnicodeWords(text string) []string {
	var b strings.Builder
	for _, r := range Normalize(text) {
		if unicode.In(r, unicode.Han, unicode.Hiragana, unicode.Katakana) {
			b.WriteString(" " + string(r) + " ")
		} else {
			b.WriteRune(r)
		}
	}
	return strings.Fields(b.String())
}

// mostWords bounds what the subsequences cost, which grow with the square.
const mostWords = 2000

// RougeOf scores an answer. Texts count up to their first 2,000 words.
func RougeOf(answer, want string, words Words) Rouge {
	a, b := words(answer), words(want)
	a, b = a[:min(len(a), mostWords)], b[:min(len(b), mostWords)]
	return Rouge{
		Rouge1: gramF1(a, b, 1), Rouge2: gramF1(a, b, 2),
		RougeL:    ratio(2*len(common(b, a)), len(a)+len(b)),
		RougeLsum: linesF1(lines(answer, words), lines(want, words)),
	}
}

// grams counts the n-grams of words, joined by a space, which no word has.
func grams(words []string, n int) map[string]int {
	out := map[string]int{}
	for i := 0; i+n <= len(words); i++ {
		out[strings.Join(words[i:i+n], " ")]++
	}
	return out
}

func gramF1(answer, want []string, n int) float64 {
	got, ref, hits := grams(answer, n), grams(want, n), 0
	for g, k := range ref {
		hits += min(k, got[g])
	}
	return ratio(2*hits, max(0, len(answer)-n+1)+max(0, len(want)-n+1))
}

// lines are the words of each line that is not empty, mostWords in all.
func lines(text string, words Words) [][]string {
	var out [][]string
	left := mostWords
	for line := range strings.SplitSeq(text, "\n") {
		if line == "" {
			continue
		}
		w := words(line)
		w = w[:min(len(w), left)]
		left -= len(w)
		out = append(out, w)
	}
	return out
}

// linesF1 is the summary-level LCS: of each line of want, the words that any line
// of answer has in a longest common subsequence with it; no word counts more often
// than either text has it.
func linesF1(answer, want [][]string) float64 {
	left := func(lines [][]string) (map[string]int, int) {
		count, n := map[string]int{}, 0
		for _, line := range lines {
			n += len(line)
			for _, w := range line {
				count[w]++
			}
		}
		return count, n
	}
	got, n := left(answer)
	ref, m := left(want)
	if n == 0 || m == 0 {
		return 0
	}
	hits := 0
	for _, line := range want {
		var union []int
		for _, other := range answer {
			union = append(union, common(line, other)...)
		}
		slices.Sort(union)
		for _, i := range slices.Compact(union) {
			if w := line[i]; got[w] > 0 && ref[w] > 0 {
				hits++
				got[w]--
				ref[w]--
			}
		}
	}
	return ratio(2*hits, n+m)
}

// common gives the places in ref of one longest common subsequence with other,
// ascending. Of several it is the one that rouge_score goes back through: from the
// end, a word that both have is taken, and where both ways are as long ref gives way.
func common(ref, other []string) []int {
	if len(ref) == 0 || len(other) == 0 {
		return nil
	}
	width := len(other) + 1
	table := make([]int32, (len(ref)+1)*width)
	for i, w := range ref {
		above, row := table[i*width:(i+1)*width], table[(i+1)*width:(i+2)*width]
		for j, v := range other {
			if w == v {
				row[j+1] = above[j] + 1
			} else {
				row[j+1] = max(above[j+1], row[j])
			}
		}
	}
	out := make([]int, 0, table[len(table)-1])
	for i, j := len(ref), len(other); i > 0 && j > 0; {
		switch {
		case ref[i-1] == other[j-1]:
			i, j = i-1, j-1
			out = append(out, i)
		case table[i*width+j-1] > table[(i-1)*width+j]:
			j--
		default:
			i--
		}
	}
	slices.Reverse(out)
	return out
}

// RougeL is the longest common subsequence's F1 alone, over UnicodeWords: the score
// of one answer in any language.
func RougeL(answer, want string) float64 { return RougeOf(answer, want, UnicodeWords).RougeL }
