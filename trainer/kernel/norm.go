package kernel

import "math"

// RMSNorm sets y = x·inv·gain row by row, where inv = 1/√(mean(x²)+eps) is kept
// per row for the way back. x and y are [rows, len(gain)]. (Zhang and Sennrich,
// arXiv 1910.07467; eps stands inside the root, as in LlamaRMSNorm.)
func (e *Engine) RMSNorm(y, inv, x, gain []float32, eps float64) {
	d := len(gain)
	e.Rows(len(inv), d, func(r0, r1 int) {
		for r := r0; r < r1; r++ {
			row := x[r*d : (r+1)*d]
			ms := float64(e.vec.dot(row, row)) / float64(d)
			inv[r] = float32(1 / math.Sqrt(ms+eps))
			e.vec.mulMul(y[r*d:(r+1)*d], row, gain, inv[r])
		}
	})
}

// RMSNormed sets y to what RMSNorm made of x, given the inv that it left: the same
// bits.
func (e *Engine) RMSNormed(y, inv, x, gain []float32) {
	d := len(gain)
	e.Rows(len(inv), d, func(r0, r1 int) {
		for r := r0; r < r1; r++ {
			e.vec.mulMul(y[r*d:(r+1)*d], x[r*d:(r+1)*d], gain, inv[r])
		}
	})
}

// RMSNormGrad adds the gradient with respect to x to dx and, unless dgain is
// nil, the gradient with respect to the gain to dgain.
func (e *Engine) RMSNormGrad(dx, dgain, dy, x, inv, gain []float32) {
	d := len(gain)
	e.Rows(len(inv), d, func(r0, r1 int) {
		for r := r0; r < r1; r++ {
			xr, dyr := x[r*d:(r+1)*d], dy[r*d:(r+1)*d]
			s := inv[r]
			c := e.vec.dot3(dyr, gain, xr) * s * s * s / float32(d)
			e.vec.normGrad(dx[r*d:(r+1)*d], dyr, gain, xr, s, c)
		}
	})
	if dgain == nil {
		return
	}
	// One task owns a range of columns and goes through the rows in order.
	e.Columns(d, func(c0, c1 int) {
		for r, s := range inv {
			xr, dyr, g := x[r*d+c0:r*d+c1], dy[r*d+c0:r*d+c1], dgain[c0:c1]
			for i, v := range xr {
				g[i] += dyr[i] * v * s
			}
		}
	})
}

// Columns calls f for consecutive ranges of columns, in parallel.
func (e *Engine) Columns(cols int, f func(c0, c1 int)) {
	const step = 64
	e.Parallel((cols+step-1)/step, func(_, i int) {
		f(i*step, min(cols, (i+1)*step))
	})
}

// Scale multiplies x by a.
func (e *Engine) Scale(x []float32, a float32) {
	e.Rows(len(x), 1, func(i0, i1 int) { e.vec.scale(x[i0:i1], x[i0:i1], a) })
}

// Add adds x to y.
func (e *Engine) Add(y, x []float32) {
	e.Rows(len(x), 1, func(i0, i1 int) { e.vec.axpy(y[i0:i1], x[i0:i1], 1) })
}

// FillRows sets each of the rows of y to the row x: a product that adds to y then
// has x as its bias.
func (e *Engine) FillRows(y, x []float32) {
	d := len(x)
	e.Rows(len(y)/d, d, func(r0, r1 int) {
		for r := r0; r < r1; r++ {
			copy(y[r*d:(r+1)*d], x)
		}
	})
}

// SumRows adds the sum of the rows of x, each as long as y, to y.
func (e *Engine) SumRows(y, x []float32) {
	d := len(y)
	e.Columns(d, func(c0, c1 int) {
		for r := range len(x) / d {
			e.vec.axpy(y[c0:c1], x[r*d+c0:r*d+c1], 1)
		}
	})
}
