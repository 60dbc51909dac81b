package kernel_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

// near compares values that two sets of loops computed from the same input.
func near(t *rapid.T, what string, e *kernel.Engine, got, want []float32) {
	for i := range want {
		d := math.Abs(float64(got[i]) - float64(want[i]))
		if !(d <= 3e-6*(1+math.Abs(float64(want[i])))) {
			t.Fatalf("%s, %v: value %d of %d is %g, pure Go has %g", what, e.ISA(), i, len(want), got[i], want[i])
		}
	}
}

// TestLoopsAgreeWithPureGo runs every operation that is built on the vector
// loops on random shapes, ragged lengths included, against the pure-Go engine.
func TestLoopsAgreeWithPureGo(t *testing.T) {
	pure := kernel.New(kernel.Pure)
	for _, e := range engines()[1:] {
		rapid.Check(t, func(t *rapid.T) {
			rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
			rows, d := rapid.IntRange(1, 9).Draw(t, "rows"), rapid.IntRange(1, 75).Draw(t, "cols")
			n := rows * d
			spread := rapid.SampledFrom([]float32{0.01, 1, 30}).Draw(t, "spread")
			draw := func(n int) []float32 {
				x := random(rng, n)
				for i := range x {
					x[i] *= spread
				}
				return x
			}
			both := func(what string, in []float32, f func(e *kernel.Engine, x []float32)) {
				a, b := slices.Clone(in), slices.Clone(in)
				f(e, a)
				f(pure, b)
				near(t, what, e, a, b)
			}
			x, gain, dy := draw(n), random(rng, d), random(rng, n)
			both("norm", make([]float32, n+rows), func(e *kernel.Engine, y []float32) {
				e.RMSNorm(y[:n], y[n:], x, gain, 1e-5)
			})
			inv := make([]float32, rows)
			pure.RMSNorm(make([]float32, n), inv, x, gain, 1e-5)
			both("norm gradient", random(rng, n+d), func(e *kernel.Engine, y []float32) {
				for i := range inv {
					inv[i] = min(inv[i], 10)
				}
				e.RMSNormGrad(y[:n], y[n:], dy, x, inv, gain)
			})
			both("scale, add", x, func(e *kernel.Engine, y []float32) { e.Scale(y, 0.3); e.Add(y, dy) })
			gate, up := draw(n), random(rng, n)
			both("swiglu", make([]float32, n), func(e *kernel.Engine, y []float32) { e.SwiGLU(y, gate, up) })
			both("swiglu gradient", slices.Concat(gate, up), func(e *kernel.Engine, y []float32) { e.SwiGLUGrad(y[:n], y[n:], dy) })
			both("geglu", make([]float32, n), func(e *kernel.Engine, y []float32) { e.GeGLU(y, gate, up) })
			both("geglu gradient", slices.Concat(gate, up), func(e *kernel.Engine, y []float32) { e.GeGLUGrad(y[:n], y[n:], dy) })
			both("a row filled in, rows summed", slices.Concat(x, gain), func(e *kernel.Engine, y []float32) {
				e.SumRows(y[n:], y[:n])
				e.FillRows(y[:n], gain)
			})
			targets, weights := make([]int32, rows), random(rng, rows)
			for i := range targets {
				targets[i] = int32(rng.IntN(d))
			}
			both("cross-entropy", x, func(e *kernel.Engine, y []float32) {
				lp := make([]float64, rows)
				e.CrossEntropy(lp, y, d, d, targets, weights)
				y[0] += float32(lp[rows-1])
			})
			c := kernel.AdamConst{Beta1: 0.9, OneMinus1: 0.1, Beta2: 0.99, OneMinus2: 0.01, Size: 0.1, InvBias2: 3, Eps: 1e-6, Keep: 0.98}
			v := random(rng, n)
			for i := range v {
				v[i] = float32(math.Abs(float64(v[i])))
			}
			both("adamw", slices.Concat(x, random(rng, n), v), func(e *kernel.Engine, y []float32) {
				e.AdamW(y[:n], dy, y[n:2*n], y[2*n:], c)
			})
			half := rapid.IntRange(1, 20).Draw(t, "half")
			pos := []int32{3, 0, 1}
			cos, sin := random(rng, 4*half), random(rng, 4*half)
			both("rope", random(rng, 3*2*2*half), func(e *kernel.Engine, y []float32) { e.Rope(y, 2, 2*half, pos, cos, sin) })
		})
	}
}

// The tanh form of GELU, as Python's math module computes it.
func TestGELUHasItsValues(t *testing.T) {
	in := []float32{-1000, -5, -1, -0.1, 0, 0.5, 3, 1000, float32(math.NaN())}
	for _, e := range engines() {
		h := make([]float32, len(in))
		e.GeGLU(h, in, slices.Repeat([]float32{1}, len(in)))
		for i, want := range []float64{0, -2.29179620e-07, -0.158808009, -0.0460170910, 0, 0.345714010, 2.99636261, 1000} {
			if d := math.Abs(float64(h[i]) - want); !(d < 1e-7+2e-6*math.Abs(want)) {
				t.Errorf("%v: gelu(%g) is %g, want %g", e.ISA(), in[i], h[i], want)
			}
		}
		if last := h[len(h)-1]; last == last {
			t.Errorf("%v: gelu(NaN) is %g", e.ISA(), last)
		}
	}
}

func TestExponentialsAtTheEdges(t *testing.T) {
	inf, nan := float32(math.Inf(1)), float32(math.NaN())
	for _, e := range engines() {
		h := make([]float32, 8)
		one := slices.Repeat([]float32{1}, 8)
		e.SwiGLU(h, []float32{-1000, -88, -20, 0, 20, 88, 1000, nan}, one)
		for i, want := range []float32{0, 0, -4.1223073e-8, 0, 20, 88, 1000} {
			if d := math.Abs(float64(h[i] - want)); !(d < 1e-12+1e-6*math.Abs(float64(want))) {
				t.Errorf("%v: silu %d is %g, want %g", e.ISA(), i, h[i], want)
			}
		}
		if h[7] == h[7] {
			t.Errorf("%v: silu(NaN) is %g: a diverged run would go unnoticed", e.ISA(), h[7])
		}
		lp := make([]float64, 3)
		logits := []float32{0, 500, -500, 0, nan, 0, 1, 2, inf}
		e.CrossEntropy(lp, logits, 3, 3, []int32{1, 0, 0}, nil)
		if math.Abs(lp[0]) > 1e-6 || !math.IsNaN(lp[1]) || !(math.IsNaN(lp[2]) || math.IsInf(lp[2], -1)) {
			t.Errorf("%v: log-probabilities %v, want 0, NaN and not finite", e.ISA(), lp)
		}
	}
}

// TestAttentionEqualsTheFormula checks values and, by the formula's own
// derivative in float64, gradients of grouped-query attention over packed spans:
// of all keys before, and of a window of them narrower and wider than the blocks
// that the kernel works in.
func TestAttentionEqualsTheFormula(t *testing.T) {
	for _, hd := range []kernel.Heads{{Q: 4, KV: 2, Dim: 10}, {Q: 4, KV: 2, Dim: 10, Window: 1, Scale: 0.2}, {Q: 4, KV: 2, Dim: 10, Window: 7}, {Q: 4, KV: 2, Dim: 10, Window: 110, Scale: 0.7}} {
		checkAttention(t, hd)
	}
}

func checkAttention(t *testing.T, hd kernel.Heads) {
	spans := []kernel.Span{{Rows: 5}, {Q0: 5, K0: 5, Rows: 1}, {Q0: 6, K0: 6, Rows: 131}}
	const n = 137
	rng := rand.New(rand.NewPCG(3, 4))
	q, k, v, do := random(rng, n*40), random(rng, n*20), random(rng, n*20), random(rng, n*40)
	want := attendSlow(q, k, v, do, spans, hd)
	for _, e := range engines() {
		o, lse := make([]float32, n*40), make([]float32, n*4)
		dq, dk, dv := make([]float32, n*40), random(rng, n*20), random(rng, n*20)
		e.Attention(o, lse, q, k, v, spans, hd)
		e.AttentionGrad(dq, dk, dv, do, o, lse, q, k, v, spans, hd)
		for i, got := range [][]float32{o, dq, dk, dv} {
			for j, w := range want[i] {
				if d := math.Abs(float64(got[j]) - w); !(d < 2e-5) {
					t.Fatalf("%v, %+v: %s[%d] is %g, want %g", e.ISA(), hd, []string{"o", "dq", "dk", "dv"}[i], j, got[j], w)
				}
			}
		}
	}
}

// attendSlow returns o, dq, dk and dv in float64.
func attendSlow(q, k, v, do []float32, spans []kernel.Span, hd kernel.Heads) [4][]float64 {
	out := [4][]float64{make([]float64, len(q)), make([]float64, len(q)), make([]float64, len(k)), make([]float64, len(k))}
	scale := hd.Scale
	if scale == 0 {
		scale = 1 / math.Sqrt(float64(hd.Dim))
	}
	for _, sp := range spans {
		for h := range hd.Q {
			for r := range sp.Rows {
				at := ((sp.Q0+r)*hd.Q + h) * hd.Dim
				key := func(j int) int { return ((sp.K0+j)*hd.KV + h/(hd.Q/hd.KV)) * hd.Dim }
				p, dp := make([]float64, r+1), make([]float64, r+1)
				var sum, mean float64
				for j := range p {
					if hd.Window > 0 && r-j >= hd.Window {
						continue
					}
					for i := range hd.Dim {
						p[j] += scale * float64(q[at+i]) * float64(k[key(j)+i])
						dp[j] += float64(do[at+i]) * float64(v[key(j)+i])
					}
					p[j] = math.Exp(p[j])
					sum += p[j]
				}
				for j := range p {
					p[j] /= sum
					mean += p[j] * dp[j]
				}
				for j := range p {
					ds := scale * p[j] * (dp[j] - mean)
					for i := range hd.Dim {
						out[0][at+i] += p[j] * float64(v[key(j)+i])
						out[1][at+i] += ds * float64(k[key(j)+i])
						out[2][key(j)+i] += ds * float64(q[at+i])
						out[3][key(j)+i] += p[j] * float64(do[at+i])
					}
				}
			}
		}
	}
	return out
}
