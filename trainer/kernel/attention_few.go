package kernel

import "math"

// attendFew is attend for a few queries that follow what a cache holds, as generation
// has them: keys and values are read where they are, once for a query, and not packed
// for it.
func (e *Engine) attendFew(s *scratch, o, lse, q, k, v []float32, sp Span, hd Heads, h int) {
	scale, kvh := hd.scale(), h/(hd.Q/hd.KV)
	for i := range sp.Rows {
		seen := sp.Past + i + 1
		from := hd.first(seen)
		at := (sp.Q0+i)*hd.Q + h
		row := grow(&s.att[0], seen-from)
		begin := ((sp.K0+from)*hd.KV + kvh) * hd.Dim
		e.vec.dotStrided(row, q[at*hd.Dim:][:hd.Dim], k[begin:], hd.KV*hd.Dim)
		shift := e.vec.max(row) * scale
		sum := e.vec.expSum(row, row, scale, shift)
		e.vec.scale(row, row, 1/sum)
		lse[at] = shift + float32(math.Log(float64(sum)))
		e.vec.sumStrided(o[at*hd.Dim:][:hd.Dim], row, v[begin:], hd.KV*hd.Dim)
	}
}

// pureDotStrided sets out to the products of x with rows of w that begin stride values
// apart.
func pureDotStrided(out, x, w []float32, stride int) {
	for r := range out {
		var s float32
		for i, v := range w[r*stride:][:len(x)] {
			s += x[i] * v
		}
		out[r] = s
	}
}

// pureSumStrided sets y to the sum of rows of w, each times its factor in a.
func pureSumStrided(y, a, w []float32, stride int) {
	clear(y)
	for r, factor := range a {
		for i, v := range w[r*stride:][:len(y)] {
			y[i] += factor * v
		}
	}
}
