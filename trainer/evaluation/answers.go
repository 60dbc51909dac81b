package evaluation

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

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

// compare scores answers against what the samples ask for.
func (m *material) compare(answers map[int]string) *Generation {
	g := &Generation{Generated: len(answers)}
	// In the order of the samples, so that the sums have the same bits every time.
	for i := range m.samples {
		answer, ok := answers[i]
		if !ok {
			continue
		}
		want, n := m.want(&m.samples[i]), float64(len(answers))
		if ExactMatch(answer, want) {
			g.ExactMatch += 1 / n
		}
		g.TokenF1 += TokenF1(answer, want) / n
		g.RougeL += RougeL(answer, want) / n
	}
	return g
}
