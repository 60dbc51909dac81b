package kernel

import "math"

// asmVector wraps the assembly loops: they take pointers and trust the lengths,
// which the first slice of each call gives.
func asmVector() vector {
	return vector{
		dot: func(x, y []float32) float32 {
			if len(x) == 0 {
				return 0
			}
			y = y[:len(x)]
			return dotAVX2(&x[0], &y[0], len(x))
		},
		dotBF16: func(x []float32, y []uint16) float32 {
			y = y[:len(x)]
			n := len(x) &^ 31
			var s float32
			if n > 0 {
				s = dotBF16AVX2(&x[0], &y[0], n)
			}
			for i := n; i < len(x); i++ {
				s += x[i] * fromBF16(y[i])
			}
			return s
		},
		dotRowsBF16:  asmDotRowsBF16,
		dotIntegers:  asmDotIntegers(),
		quantizeLeft: asmQuantizeLeft,
		dotStrided:   asmDotStrided,
		sumStrided:   asmSumStrided,
		dotCodes:     asmDotCodes,
		dot3: func(x, y, z []float32) float32 {
			if len(x) == 0 {
				return 0
			}
			y, z = y[:len(x)], z[:len(x)]
			return dot3AVX2(&x[0], &y[0], &z[0], len(x))
		},
		max: func(x []float32) float32 {
			if len(x) == 0 {
				return float32(math.Inf(-1))
			}
			return maxAVX2(&x[0], len(x))
		},
		axpy: func(y, x []float32, a float32) {
			if x = x[:len(y)]; len(x) > 0 {
				axpyAVX2(&y[0], &x[0], len(x), a)
			}
		},
		scale: func(y, x []float32, a float32) {
			if x = x[:len(y)]; len(x) > 0 {
				scaleAVX2(&y[0], &x[0], len(x), a)
			}
		},
		mulMul: func(y, x, z []float32, a float32) {
			if x, z = x[:len(y)], z[:len(y)]; len(x) > 0 {
				mulMulAVX2(&y[0], &x[0], &z[0], len(x), a)
			}
		},
		expSum: func(y, x []float32, a, shift float32) float32 {
			if x = x[:len(y)]; len(x) == 0 {
				return 0
			}
			return expSumAVX2(&y[0], &x[0], len(x), a, shift)
		},
		normGrad: func(dx, dy, g, x []float32, a, b float32) {
			if dy, g, x = dy[:len(dx)], g[:len(dx)], x[:len(dx)]; len(x) > 0 {
				normGradAVX2(&dx[0], &dy[0], &g[0], &x[0], len(x), a, b)
			}
		},
		rope: func(x0, x1, cos, sin []float32) {
			if x1, cos, sin = x1[:len(x0)], cos[:len(x0)], sin[:len(x0)]; len(x0) > 0 {
				ropeAVX2(&x0[0], &x1[0], &cos[0], &sin[0], len(x0))
			}
		},
		swiglu: func(h, g, u []float32) {
			if g, u = g[:len(h)], u[:len(h)]; len(h) > 0 {
				swigluAVX2(&h[0], &g[0], &u[0], len(h))
			}
		},
		swigluGrad: func(g, u, dh []float32) {
			if u, dh = u[:len(g)], dh[:len(g)]; len(g) > 0 {
				swigluGradAVX2(&g[0], &u[0], &dh[0], len(g))
			}
		},
		geglu: func(h, g, u []float32) {
			if g, u = g[:len(h)], u[:len(h)]; len(h) > 0 {
				gegluAVX2(&h[0], &g[0], &u[0], len(h))
			}
		},
		gegluGrad: func(g, u, dh []float32) {
			if u, dh = u[:len(g)], dh[:len(g)]; len(g) > 0 {
				gegluGradAVX2(&g[0], &u[0], &dh[0], len(g))
			}
		},
		attnGrad: func(ds, p []float32, a, delta float32) {
			if p = p[:len(ds)]; len(p) > 0 {
				attnGradAVX2(&ds[0], &p[0], len(p), a, delta)
			}
		},
		adamw: func(w, g, m, v []float32, c *AdamConst) {
			if g, m, v = g[:len(w)], m[:len(w)], v[:len(w)]; len(w) > 0 {
				adamwAVX2(&w[0], &g[0], &m[0], &v[0], len(w), &c.Beta1)
			}
		},
	}
}
