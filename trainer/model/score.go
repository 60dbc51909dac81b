package model

import (
	"fmt"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

// branchTokens bounds the keys and values that exist at one time when several
// continuations are scored: each sees a copy of the prompt's.
const branchTokens = 1 << 15

// Score returns, for each of several continuations of one prompt, the
// log-probability in nats of each of its tokens, given the prompt and the tokens
// before. The prompt, of at least one token, is computed once; a continuation
// costs its own tokens. Adapters apply.
func (m *Model) Score(prompt []int32, continuations [][]int32) ([][]float64, error) {
	if len(prompt) == 0 {
		return nil, fmt.Errorf("model: score: the prompt is empty")
	}
	for i, c := range continuations {
		if len(prompt)+len(c) > m.cfg.MaxPositions {
			return nil, fmt.Errorf("model: score: prompt and continuation %d are %d tokens, more than max_position_embeddings (%d)", i, len(prompt)+len(c), m.cfg.MaxPositions)
		}
		if err := m.checkTokens(c); err != nil {
			return nil, fmt.Errorf("model: score: continuation %d: %w", i, err)
		}
	}
	s, last := m.NewSession(), prompt[len(prompt)-1]
	if len(prompt) > 1 {
		if _, err := s.Append(prompt[:len(prompt)-1]); err != nil {
			return nil, err
		}
	}
	if err := m.checkTokens(prompt[len(prompt)-1:]); err != nil {
		return nil, fmt.Errorf("model: score: %w", err)
	}
	out := make([][]float64, 0, len(continuations))
	for i := 0; i < len(continuations); {
		j, keys := i, 0
		for j < len(continuations) && (j == i || keys+s.n+len(continuations[j]) <= branchTokens) {
			keys += s.n + len(continuations[j])
			j++
		}
		m.eng.With(func() { out = append(out, s.score(last, continuations[i:j])...) })
		i = j
	}
	return out, nil
}

// score computes continuations that begin after the token last, which follows
// what the session holds. The session stays as it is.
func (s *Session) score(last int32, continuations [][]int32) [][]float64 {
	m, first, r := s.m, last, rows{cache: s, branches: true}
	var list []target
	keys := 0
	for _, c := range continuations {
		if len(c) == 0 {
			continue
		}
		r.spans = append(r.spans, kernel.Span{Q0: len(r.tokens), Rows: len(c), K0: keys, Past: s.n})
		keys += s.n + len(c)
		for i, t := range c { // each token is predicted from the one before it
			list = append(list, target{len(r.tokens), t, 1})
			r.tokens, last = append(r.tokens, last), t
			r.pos = append(r.pos, int32(s.n+i))
		}
		last = first
	}
	flat := make([]float64, 0, len(list))
	if len(list) > 0 {
		x := m.forward(r, false, false)
		for i := 0; i < len(list); i += m.headRows() {
			flat = append(flat, m.headChunk(list[i:min(len(list), i+m.headRows())], x, nil)...)
		}
	}
	out := make([][]float64, len(continuations))
	for i, c := range continuations {
		out[i], flat = flat[:len(c):len(c)], flat[len(c):]
	}
	return out
}

// branch gives one layer's keys and values for spans that each continue the
// session: its own, then the span's, span after span.
func (s *Session) branch(l int, spans []kernel.Span, k, v []float32) (keys, values []float32) {
	kv := s.m.cfg.NumKVHeads * s.m.cfg.HeadDim
	n := s.n * kv
	total := len(k) + len(spans)*n
	keys, values = make([]float32, 0, total), make([]float32, 0, total)
	for _, sp := range spans {
		from, to := sp.Q0*kv, (sp.Q0+sp.Rows)*kv
		keys = append(append(keys, s.k[l][:n]...), k[from:to]...)
		values = append(append(values, s.v[l][:n]...), v[from:to]...)
	}
	return keys, values
}
