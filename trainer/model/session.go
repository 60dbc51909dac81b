package model

import (
	"fmt"
	"slices"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

// Session computes one sequence step by step and keeps keys and values of what
// went before. A model's sessions share its buffers: use one at a time, from one
// goroutine. Adapters apply.
type Session struct {
	m    *Model
	n    int
	k, v [][]float32 // per layer, [n, kv heads * head dim]
}

// NewSession begins an empty sequence.
func (m *Model) NewSession() *Session {
	return &Session{m: m, k: make([][]float32, len(m.blocks)), v: make([][]float32, len(m.blocks))}
}

// Len returns the number of tokens so far.
func (s *Session) Len() int { return s.n }

// Truncate forgets all tokens from the n-th on, so that several continuations of
// one prompt cost the prompt once.
func (s *Session) Truncate(n int) { s.n = min(s.n, max(0, n)) }

// Append adds tokens and returns the logits of the token after the last one,
// [vocab]. The slice is valid until the next use of the model.
func (s *Session) Append(tokens []int32) ([]float32, error) {
	m := s.m
	if len(tokens) == 0 {
		return nil, fmt.Errorf("model: append: no tokens")
	}
	if s.n+len(tokens) > m.cfg.MaxPositions {
		return nil, fmt.Errorf("model: append: %d tokens are more than max_position_embeddings (%d)", s.n+len(tokens), m.cfg.MaxPositions)
	}
	if err := m.checkTokens(tokens); err != nil {
		return nil, fmt.Errorf("model: append: %w", err)
	}
	r := rows{tokens: tokens, cache: s, spans: []kernel.Span{{Rows: len(tokens), Past: s.n}}}
	for i := range tokens {
		r.pos = append(r.pos, int32(s.n+i))
	}
	var logits []float32
	m.eng.With(func() { logits = s.next(r) })
	return logits, nil
}

// next computes the rows and returns the logits after the last one.
func (s *Session) next(r rows) []float32 {
	m, d, v, w := s.m, s.m.cfg.HiddenSize, s.m.cfg.VocabSize, &s.m.work
	x := m.forward(r, false, false)
	s.n += len(r.tokens)
	hn := buf(&w.hn, d)
	m.eng.RMSNorm(hn, buf(&w.hinv, 1), x[len(x)-d:], m.norm.gain(), m.cfg.RMSNormEps)
	logits := buf(&w.logits, v)
	m.eng.Gemm(kernel.Product{C: kernel.F32(logits, 1, v),
		Terms: []kernel.Term{{A: kernel.F32(hn, 1, d), B: m.head.matrix(v, d).T()}}})
	return logits
}

// extend appends one layer's new keys and values and returns all of them.
func (s *Session) extend(l int, k, v []float32) (keys, values []float32) {
	n := s.n * s.m.cfg.NumKVHeads * s.m.cfg.HeadDim
	s.k[l] = append(s.k[l][:n], k...)
	s.v[l] = append(s.v[l][:n], v...)
	return s.k[l], s.v[l]
}

// Greedy appends the prompt and then the most likely token again and again,
// until one of stop (which is not returned) or maxNew tokens, or the model's
// context is full. Of equally likely tokens the lowest id wins.
func (s *Session) Greedy(prompt []int32, maxNew int, stop []int32) (out []int32, err error) {
	s.m.eng.With(func() { out, err = s.greedy(prompt, maxNew, stop) })
	return out, err
}

func (s *Session) greedy(prompt []int32, maxNew int, stop []int32) (out []int32, err error) {
	next := prompt
	for len(out) < maxNew {
		logits, err := s.Append(next)
		if err != nil {
			return out, err
		}
		best := int32(0)
		for i, v := range logits {
			if v > logits[best] {
				best = int32(i)
			}
		}
		if slices.Contains(stop, best) {
			break
		}
		out = append(out, best)
		if s.n >= s.m.cfg.MaxPositions {
			break
		}
		next = []int32{best}
	}
	return out, nil
}
