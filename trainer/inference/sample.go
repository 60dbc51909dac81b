package inference

import (
	"cmp"
	"math"
	"math/rand/v2"
	"slices"
)

// sampling says how the next token is drawn.
type sampling struct {
	temperature float64 // 0: the most likely
	topK        int     // 0: all
	topP        float64 // 1: all
}

// candidate is a token that may come next.
type candidate struct {
	token int32
	p     float64
}

// sampler draws tokens. Equal logits and an equal seed give equal tokens.
type sampler struct {
	sampling
	rand *rand.Rand
	pool []candidate
}

func newSampler(s sampling, seed uint64) *sampler {
	return &sampler{sampling: s, rand: rand.New(rand.NewPCG(seed, 0x67656e6572617465))}
}

// next draws from softmax(logits / temperature), cut to the topK most likely
// and of these to the fewest that together have topP (Holtzman et al. 2020,
// "The Curious Case of Neural Text Degeneration"). Of equally likely tokens the
// lowest id comes first.
func (s *sampler) next(logits []float32) int32 {
	if s.temperature == 0 {
		return most(logits)
	}
	s.pool = s.pool[:0]
	top := float64(logits[most(logits)])
	for i, v := range logits {
		s.pool = append(s.pool, candidate{int32(i), math.Exp((float64(v) - top) / s.temperature)})
	}
	pool := s.pool
	if s.topK > 0 || s.topP < 1 {
		slices.SortStableFunc(pool, func(a, b candidate) int { return cmp.Compare(b.p, a.p) })
	}
	if s.topK > 0 && s.topK < len(pool) {
		pool = pool[:s.topK]
	}
	total := sum(pool)
	if s.topP < 1 {
		share := 0.0
		for i, c := range pool {
			if share += c.p / total; share >= s.topP {
				pool = pool[:i+1]
				break
			}
		}
		total = sum(pool)
	}
	x := s.rand.Float64() * total
	for _, c := range pool {
		if x -= c.p; x < 0 {
			return c.token
		}
	}
	return pool[len(pool)-1].token // rounding
}

func sum(pool []candidate) (total float64) {
	for _, c := range pool {
		total += c.p
	}
	return total
}

// most is the most likely token.
func most(logits []float32) int32 {
	best := 0
	for i, v := range logits {
		if v > logits[best] {
			best = i
		}
	}
	return int32(best)
}
