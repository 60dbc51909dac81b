package kernel

const (
	// maxDotRows is the number of rows up to which packing B costs more than it
	// saves: each element of a packed weight would be used that often only.
	maxDotRows = 4
	dotCols    = 64 // columns per task
)

// canDot reports whether a product can be computed as dot products straight from
// the operands: they must be contiguous along k.
func canDot(p *Product) bool {
	for _, t := range p.Terms {
		if t.A.cs != 1 || t.B.rs != 1 || t.B.q != nil || t.Round {
			return false
		}
	}
	return true
}

// dotBlock computes columns [n0, n1) of a product with few rows, as generation
// with a KV cache has them.
func (e *Engine) dotBlock(p *Product, n0, n1 int) {
	c := p.C
	for n := n0; n < n1; n++ {
		for m := range c.rows {
			var sum float32
			if p.Add {
				sum = c.f32[m*c.rs+n]
			}
			for _, t := range p.Terms {
				k := t.A.cols
				x := t.A.f32[m*t.A.rs : m*t.A.rs+k]
				if off := n * t.B.cs; t.B.f32 != nil {
					sum += e.vec.dot(x, t.B.f32[off:off+k])
				} else {
					sum += e.vec.dotBF16(x, t.B.bf16[off:off+k])
				}
			}
			c.f32[m*c.rs+n] = sum
		}
	}
}
