package model

import "fmt"

// Sequence is one row of a batch: token ids, and for each token the weight with
// which predicting it counts. Weights[0] is ignored, since nothing predicts the
// first token. A weight of 0 (prompt, padding) costs no output logits. Rows are
// packed one after the other, so no padding is needed.
type Sequence struct {
	Tokens  []int32
	Weights []float32
}

// checkBatch refuses rows that the model cannot compute and counts tokens and
// targets.
func (m *Model) checkBatch(batch []Sequence) (tokens, targets int, err error) {
	for i, s := range batch {
		if len(s.Weights) != len(s.Tokens) {
			return 0, 0, fmt.Errorf("model: row %d has %d tokens but %d weights", i, len(s.Tokens), len(s.Weights))
		}
		if err := m.checkTokens(s.Tokens); err != nil {
			return 0, 0, fmt.Errorf("model: row %d: %w", i, err)
		}
		for j, w := range s.Weights {
			if j > 0 && w != 0 {
				targets++
			}
		}
		tokens += len(s.Tokens)
	}
	return tokens, targets, nil
}

func (m *Model) checkTokens(tokens []int32) error {
	if len(tokens) > m.cfg.MaxPositions {
		return fmt.Errorf("%d tokens are more than max_position_embeddings (%d)", len(tokens), m.cfg.MaxPositions)
	}
	for j, t := range tokens {
		if t < 0 || int(t) >= m.cfg.VocabSize {
			return fmt.Errorf("token %d is %d, outside the vocabulary of %d", j, t, m.cfg.VocabSize)
		}
	}
	return nil
}
