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

// perSample is what each sample got by itself, by its index.
type perSample struct {
	nats   []float64 // of the true completion
	tokens []int64   // that nats are the sum over
	score  []float64 // what extremes orders by, higher is better
	metric string    // what score is
	scored []bool    // nil: all have a score
}

func (p *perSample) has(i int) bool { return p.scored == nil || p.scored[i] }

func (m *material) newPerSample(metric string) *perSample {
	n := len(m.samples)
	return &perSample{nats: make([]float64, n), tokens: make([]int64, n), score: make([]float64, n), metric: metric}
}

// score measures one model. done is told of each sample.
func (m *material) score(ctx context.Context, mod *model.Model, done func(n int)) (measured, error) {
	if m.labels != nil {
		return m.scoreLabels(ctx, mod, done)
	}
	return m.scoreLoss(ctx, mod, done)
}

// scoreLabels predicts a label for each sample. The loss comes with it: the true
// completion is one of the labels.
func (m *material) scoreLabels(ctx context.Context, mod *model.Model, done func(int)) (measured, error) {
	out := measured{predicted: make([]int, len(m.samples)), perSample: m.newPerSample("margin_nats")}
	for i := range m.samples {
		if err := ctx.Err(); err != nil {
			return measured{}, err
		}
		s := &m.samples[i]
		logprobs, err := mod.Score(s.Tokens[:s.PromptTokens], m.labels)
		if err != nil {
			return measured{}, fmt.Errorf("evaluation: score row %d: %w", s.Row, err)
		}
		best, other, truth := math.Inf(-1), math.Inf(-1), m.truth[i]
		for label, lp := range logprobs {
			sum := total(lp)
			if sum > best {
				out.predicted[i], best = label, sum
			}
			if label != truth {
				other = max(other, sum)
			}
		}
		out.perSample.nats[i], out.perSample.tokens[i] = -total(logprobs[truth]), int64(len(m.labels[truth]))
		if out.perSample.score[i] = total(logprobs[truth]); len(m.labels) > 1 {
			out.perSample.score[i] -= other
		}
		done(1)
	}
	c, err := Classify(m.summary.Labels, m.truth, out.predicted)
	if err != nil {
		return measured{}, err
	}
	out.scores, err = out.perSample.loss()
	out.scores.Classification = &c
	return out, err
}

// scoreLoss measures the loss on all ranges that carry loss.
func (m *material) scoreLoss(ctx context.Context, mod *model.Model, done func(int)) (measured, error) {
	out := measured{perSample: m.newPerSample("negative_loss")}
	p := out.perSample
	for i := 0; i < len(m.samples); {
		if err := ctx.Err(); err != nil {
			return measured{}, err
		}
		var batch []model.Sequence
		first := i
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
		rows, err := mod.BatchLogprobs(batch)
		if err != nil {
			return measured{}, fmt.Errorf("evaluation: loss: %w", err)
		}
		for j, row := range rows {
			p.nats[first+j], p.tokens[first+j] = -total(row), int64(len(row))
			p.score[first+j] = total(row) / float64(max(1, len(row)))
		}
		done(len(batch))
	}
	var err error
	out.scores, err = p.loss()
	return out, err
}

// loss adds up in the order of the samples, so that the sum has the same bits every
// time.
func (p *perSample) loss() (Scores, error) {
	nats, tokens := 0.0, int64(0)
	for i := range p.nats {
		nats, tokens = nats+p.nats[i], tokens+p.tokens[i]
	}
	return lossScores(nats, tokens)
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
