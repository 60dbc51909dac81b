package kernel

import "math"

// AdamConst holds the scalars of one AdamW step: the decay rates of the two
// moments and their complements, lr/(1−β1ᵗ), 1/√(1−β2ᵗ), ε, and the factor by
// which weight decay shrinks the weights.
type AdamConst struct {
	Beta1, OneMinus1, Beta2, OneMinus2, Size, InvBias2, Eps, Keep float32
}

// AdamW updates weights w and moments m and v from gradients g:
//
//	m ← β1·m + (1−β1)·g    v ← β2·v + (1−β2)·g²
//	w ← keep·w − size·m/(√v·invBias2 + ε)
func (e *Engine) AdamW(w, g, m, v []float32, c AdamConst) {
	const step = 1 << 14
	g, m, v = g[:len(w)], m[:len(w)], v[:len(w)]
	e.Parallel((len(w)+step-1)/step, func(_, i int) {
		a, b := i*step, min(len(w), (i+1)*step)
		e.vec.adamw(w[a:b], g[a:b], m[a:b], v[a:b], &c)
	})
}

func pureAdamW(w, g, m, v []float32, c *AdamConst) {
	for i := range w {
		gi := g[i]
		mi := c.Beta1*m[i] + c.OneMinus1*gi
		vi := c.Beta2*v[i] + c.OneMinus2*(gi*gi)
		m[i], v[i] = mi, vi
		den := float32(math.Sqrt(float64(vi)))*c.InvBias2 + c.Eps
		w[i] = w[i]*c.Keep - c.Size*(mi/den)
	}
}
