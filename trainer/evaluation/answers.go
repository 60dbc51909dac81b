package evaluation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"unicode"

	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/sample"
)

// Bounds of the greedy answers, which cost a pass of the model for each token.
const (
	mostGenerated = 64 // samples answered, for tasks that are scored by answers
	labelTokens   = 24 // of an answer to a classification
	leastTokens   = 32
	mostTokens    = 256
)

// choose returns the samples that are answered, ascending, and of them those that
// are shown. The choice depends on the seed and the samples only; a classification
// shows as many different labels as it can.
func (m *material) choose() (answered, shown []int) {
	order := rand.New(rand.NewPCG(m.config.Seed, 0x73686f77)).Perm(len(m.samples))
	// A completion of plain texts has no prompt: its loss counts, there is nothing to
	// answer.
	order = slices.DeleteFunc(order, func(i int) bool { return m.samples[i].PromptTokens == 0 })
	n := min(m.config.Evaluation.SampleAnswers, len(order))
	if m.labels == nil {
		answered = order[:min(len(order), max(mostGenerated, n))]
		shown = slices.Clone(answered[:n])
	} else {
		seen := map[int]int{}
		for round := 0; len(shown) < n; round++ {
			for _, i := range order {
				if len(shown) < n && seen[m.truth[i]] == round && !slices.Contains(shown, i) {
					shown = append(shown, i)
					seen[m.truth[i]]++
				}
			}
			for label := range m.labels { // a label without further samples is passed over
				seen[label] = round + 1
			}
		}
		answered = slices.Clone(shown)
	}
	slices.Sort(answered)
	slices.Sort(shown)
	return answered, shown
}

// generate answers samples greedily; the result has the samples' indexes.
func (m *material) generate(ctx context.Context, mod *model.Model, which []int, done func(n int)) (map[int]string, error) {
	out := make(map[int]string, len(which))
	for _, i := range which {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s := &m.samples[i]
		limit := labelTokens
		if m.labels == nil {
			limit = min(max(2*len(completion(s)), leastTokens), mostTokens)
		}
		tokens, err := mod.NewSession().Greedy(s.Tokens[:s.PromptTokens], limit, m.stop)
		if err != nil {
			return nil, fmt.Errorf("evaluation: answer row %d: %w", s.Row, err)
		}
		out[i] = strings.TrimSpace(m.tok.Decode(tokens, true))
		done(1)
	}
	return out, nil
}

// want is the answer that a sample asks for, as text.
func (m *material) want(s *sample.Sample) string {
	if s.Target != "" {
		return s.Target
	}
	return strings.TrimSpace(m.tok.Decode(completion(s), true))
}

// answerScores are the scores of each answer, in the order of the samples.
type answerScores struct {
	exact, f1, l   []float64 // l: RougeL, over words of any script
	rouge, stemmed []Rouge
	bleu           []BLEUCounts
	words          string // the name of the words that rouge counts
	which          []int  // the samples
}

// compare scores answers against what the samples ask for.
func (m *material) compare(answers map[int]string) *answerScores {
	a := &answerScores{words: "rouge_score"}
	words := RougeWords
	if m.foreign(answers) {
		a.words, words = "unicode", UnicodeWords
	}
	for i := range m.samples {
		answer, ok := answers[i]
		if !ok {
			continue
		}
		want := m.want(&m.samples[i])
		exact := 0.0
		if ExactMatch(answer, want) {
			exact = 1
		}
		a.which, a.exact, a.f1 = append(a.which, i), append(a.exact, exact), append(a.f1, TokenF1(answer, want))
		a.l = append(a.l, RougeL(answer, want))
		a.rouge = append(a.rouge, RougeOf(answer, want, words))
		if a.words == "rouge_score" {
			a.stemmed = append(a.stemmed, RougeOf(answer, want, RougeStems))
		}
		a.bleu = append(a.bleu, CountBLEU(answer, want))
	}
	return a
}

// foreign says whether rouge_score's words would lose a tenth of the letters that
// the samples ask for or more.
func (m *material) foreign(answers map[int]string) bool {
	letters, lost := 0, 0
	for i := range answers {
		for _, r := range m.want(&m.samples[i]) {
			if unicode.IsLetter(r) {
				letters++
				if r > unicode.MaxASCII {
					lost++
				}
			}
		}
	}
	return 10*lost >= letters && lost > 0
}

// generation gives the means.
func (a *answerScores) generation() *Generation {
	n := float64(len(a.which))
	g := &Generation{Generated: len(a.which), RougeTokenizer: a.words, BLEUSignature: BLEUSignature}
	meanRouge := func(list []Rouge) (out Rouge) {
		for _, r := range list {
			out.Rouge1, out.Rouge2 = out.Rouge1+r.Rouge1/n, out.Rouge2+r.Rouge2/n
			out.RougeL, out.RougeLsum = out.RougeL+r.RougeL/n, out.RougeLsum+r.RougeLsum/n
		}
		return out
	}
	g.Rouge = meanRouge(a.rouge)
	if len(a.stemmed) > 0 {
		s := meanRouge(a.stemmed)
		g.Stemmed = &s
	}
	var counts BLEUCounts
	for i := range a.which {
		g.ExactMatch += a.exact[i] / n
		g.TokenF1 += a.f1[i] / n
		g.SentenceBLEU += a.bleu[i].BLEU(true) / n
		counts.Add(a.bleu[i])
	}
	g.BLEU = counts.BLEU(false)
	return g
}

// rouges picks one figure of each answer.
func (a *answerScores) rouges(pick func(Rouge) float64) []float64 {
	out := make([]float64, len(a.rouge))
	for i, r := range a.rouge {
		out[i] = pick(r)
	}
	return out
}
