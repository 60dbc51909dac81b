package kernel

import "math"

// vector is the set of loops over contiguous values. All slices of one call have
// the same length unless said otherwise.
type vector struct {
	dot     func(x, y []float32) float32
	dotBF16 func(x []float32, y []uint16) float32
	// dotRowsBF16 is dotBF16 for rows of w that lie one after the other; len(x) is a
	// multiple of 32.
	dotRowsBF16 func(out, x []float32, w []uint16)
	// dotIntegers is the product of a rounded row with rows of codes.
	dotIntegers  func(out []float32, left blocksOf8, codes []byte, scales []float32)
	quantizeLeft quantizer
	// dotStrided and sumStrided: see their loops in Go.
	dotStrided func(out, x, w []float32, stride int)
	sumStrided func(y, a, w []float32, stride int)
	// dotCodes is Σ x·code·scale over whole blocks of codes of so many bits.
	dotCodes func(bits int, x []float32, codes []byte, scales []float32) float32
	dot3     func(x, y, z []float32) float32    // Σ x·y·z
	max      func(x []float32) float32          // −Inf for no values
	axpy     func(y, x []float32, a float32)    // y += a·x
	scale    func(y, x []float32, a float32)    // y = a·x
	mulMul   func(y, x, z []float32, a float32) // y = a·x·z
	// expSum sets y = exp(a·x − shift) and returns Σ y.
	expSum func(y, x []float32, a, shift float32) float32
	// normGrad adds a·g·dy − b·x to dx.
	normGrad func(dx, dy, g, x []float32, a, b float32)
	// rope rotates the pairs (x0[i], x1[i]) by the angle of cos[i], sin[i].
	rope func(x0, x1, cos, sin []float32)
	// swiglu sets h = silu(g)·u.
	swiglu func(h, g, u []float32)
	// swigluGrad replaces g and u by their gradients, given dh.
	swigluGrad func(g, u, dh []float32)
	// geglu sets h = gelu(g)·u, with GELU in its tanh form.
	geglu func(h, g, u []float32)
	// gegluGrad replaces g and u by their gradients, given dh.
	gegluGrad func(g, u, dh []float32)
	// attnGrad sets ds = a·p·(ds − delta).
	attnGrad func(ds, p []float32, a, delta float32)
	// adamw updates w, m and v: see AdamW.
	adamw func(w, g, m, v []float32, c *AdamConst)
}

func pureVector() vector {
	return vector{
		dot: func(x, y []float32) float32 {
			var s float32
			for i, v := range x {
				s += v * y[i]
			}
			return s
		},
		dotBF16: func(x []float32, y []uint16) float32 {
			var s float32
			for i, v := range x {
				s += v * fromBF16(y[i])
			}
			return s
		},
		dotRowsBF16: func(out, x []float32, w []uint16) {
			for r := range out {
				var s float32
				for i, v := range x {
					s += v * fromBF16(w[r*len(x)+i])
				}
				out[r] = s
			}
		},
		dotIntegers:  pureDotIntegers,
		quantizeLeft: pureQuantizeLeft,
		dotStrided:   pureDotStrided,
		sumStrided:   pureSumStrided,
		dotCodes:     pureDotCodes,
		dot3: func(x, y, z []float32) float32 {
			var s float32
			for i, v := range x {
				s += v * y[i] * z[i]
			}
			return s
		},
		max: func(x []float32) float32 {
			m := float32(math.Inf(-1))
			for _, v := range x {
				m = max(m, v)
			}
			return m
		},
		axpy: func(y, x []float32, a float32) {
			for i, v := range x {
				y[i] += a * v
			}
		},
		scale: func(y, x []float32, a float32) {
			for i, v := range x {
				y[i] = a * v
			}
		},
		mulMul: func(y, x, z []float32, a float32) {
			for i, v := range x {
				y[i] = a * v * z[i]
			}
		},
		expSum: func(y, x []float32, a, shift float32) float32 {
			var s float32
			for i, v := range x {
				y[i] = float32(math.Exp(float64(a*v - shift)))
				s += y[i]
			}
			return s
		},
		normGrad: func(dx, dy, g, x []float32, a, b float32) {
			for i, v := range x {
				dx[i] += a*g[i]*dy[i] - b*v
			}
		},
		rope: func(x0, x1, cos, sin []float32) {
			for i, a := range x0 {
				b := x1[i]
				x0[i] = a*cos[i] - b*sin[i]
				x1[i] = b*cos[i] + a*sin[i]
			}
		},
		swiglu: func(h, g, u []float32) {
			for i, v := range g {
				h[i] = v * sigmoid(v) * u[i]
			}
		},
		swigluGrad: func(g, u, dh []float32) {
			for i, v := range g {
				s := sigmoid(v)
				silu := v * s
				g[i] = dh[i] * u[i] * (s + silu*(1-s))
				u[i] = dh[i] * silu
			}
		},
		geglu: func(h, g, u []float32) {
			for i, v := range g {
				h[i] = v * sigmoid(v*(geluLinear+geluCubic*v*v)) * u[i]
			}
		},
		gegluGrad: func(g, u, dh []float32) {
			for i, v := range g {
				s := sigmoid(v * (geluLinear + geluCubic*v*v))
				gelu := v * s
				g[i] = dh[i] * u[i] * (s + gelu*(1-s)*(geluLinear+3*geluCubic*v*v))
				u[i] = dh[i] * gelu
			}
		},
		attnGrad: func(ds, p []float32, a, delta float32) {
			for i, v := range p {
				ds[i] = a * v * (ds[i] - delta)
			}
		},
		adamw: pureAdamW,
	}
}

// 0.5·(1 + tanh(√(2/π)·(x + 0.044715·x³))) = sigmoid(geluLinear·x + geluCubic·x³).
const (
	geluLinear = 1.5957691216057308 // 2·√(2/π)
	geluCubic  = geluLinear * 0.044715
)

func sigmoid(x float32) float32 { return float32(1 / (1 + math.Exp(-float64(x)))) }
