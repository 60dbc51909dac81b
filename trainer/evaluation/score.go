package evaluation

import (
	"context"
	"fmt"
	"math"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/model"
)

// batchTokens is how many tokens are computed together: enough for the matrix
// products to be efficient, few enough to stay in the caches.
const batchTokens = 2048

// score measures one model. done is told of each sample.
func (m *material) score(ctx context.Context, mod *model.Model, done func(n int)) (Scores, []int, error) {
	if m.labels != nil {
		return m.scoreLabels(ctx, mod, done)
	}
	s, err := m.scoreLoss(ctx, mod, done)
	return s, nil, err
}

// scoreLabels predicts a label for each sample. The loss comes with it: the true
// completion is one of the labels.
func (m *material) scoreLabels(ctx context.Context, mod *model.Model, done func(int)) (Scores, []int, error) {
	longest := 0
	for _, l := range m.labels {
		longest = max(longest, len(l))
	}
	predicted := make([]int, len(m.samples))
	nats, tokens := 0.0, int64(0)
	for i := range m.samples {
		if err := ctx.Err(); err != nil {
			return Scores{}, nil, err
		}
		s := &m.samples[i]
		prompt := s.Tokens[:s.PromptTokens]
		if over := len(prompt) + longest - m.shape.MaxPositions; over > 0 {
			// The true label fits, another one would not: all see the same, later part.
			if over >= len(prompt) {
				return Scores{}, nil, &contract.Error{Class: contract.ClassConfig, Code: "LABEL_TOO_LONG", Message: fmt.Sprintf("a label has %d tokens, the model's context %d", longest, m.shape.MaxPositions)}
			}
			prompt = prompt[over:]
		}
		logprobs, err := mod.Score(prompt, m.labels)
		if err != nil {
			return Scores{}, nil, fmt.Errorf("evaluation: score row %d: %w", s.Row, err)
		}
		best := math.Inf(-1)
		for label, lp := range logprobs {
			if sum := total(lp); sum > best {
				predicted[i], best = label, sum
			}
		}
		nats -= total(logprobs[m.truth[i]])
		tokens += int64(len(m.labels[m.truth[i]]))
		done(1)
	}
	c, err := Classify(m.summary.Labels, m.truth, predicted)
	if err != nil {
		return Scores{}, nil, err
	}
	s, err := lossScores(nats, tokens)
	s.Classification = &c
	return s, predicted, err
}

// scoreLoss measures the loss on all ranges that carry loss.
func (m *material) scoreLoss(ctx context.Context, mod *model.Model, done func(int)) (Scores, error) {
	nats, targets := 0.0, int64(0)
	for i := 0; i < len(m.samples); {
		if err := ctx.Err(); err != nil {
			return Scores{}, err
		}
		var batch []model.Sequence
		for n := 0; i < len(m.samples) && (len(batch) == 0 || n+len(m.samples[i].Tokens) <= batchTokens); i++ {
			s := &m.samples[i]
			n += len(s.Tokens)
			w := make([]float32, len(s.Tokens))
			for _, r := range s.Loss {
				for j := r[0]; j < r[1]; j++ {
					w[j] = 1
				}
			}
			batch = append(batch, model.Sequence{Tokens: s.Tokens, Weights: w})
		}
		sum, n, err := mod.Loss(batch)
		if err != nil {
			return Scores{}, fmt.Errorf("evaluation: loss: %w", err)
		}
		nats, targets = nats+sum, targets+int64(n)
		done(len(batch))
	}
	return lossScores(nats, targets)
}

func lossScores(nats float64, tokens int64) (Scores, error) {
	loss := nats / float64(tokens)
	if math.IsNaN(loss) || math.IsInf(loss, 0) {
		return Scores{}, &contract.Error{Class: contract.ClassBadInput, Code: "LOSS_NOT_FINITE", Message: fmt.Sprintf("the model's loss is %v", loss), Hint: "the training diverged: lower training.learning_rate"}
	}
	return Scores{Loss: loss, Perplexity: perplexity(loss), Tokens: tokens}, nil
}

func total(logprobs []float64) float64 {
	sum := 0.0
	for _, lp := range logprobs {
		sum += lp
	}
	return sum
}
