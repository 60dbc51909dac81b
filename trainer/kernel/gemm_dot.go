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
		along := t.B.rs == 1
		if t.B.q != nil {
			along = t.B.turned
		}
		if t.A.cs != 1 || !along || t.Round {
			return false
		}
	}
	return true
}

// dotBlock computes columns [n0, n1) of a product with few rows, as generation
// with a KV cache has them.
func (e *Engine) dotBlock(p *Product, n0, n1 int) {
	c := p.C
	var products [dotCols]float32
	dots := products[:n1-n0]
	for m := range c.rows {
		row := c.f32[m*c.rs+n0 : m*c.rs+n1]
		if !p.Add {
			clear(row)
		}
		for _, t := range p.Terms {
			e.dotColumns(dots, t, m, n0)
			for i, d := range dots {
				row[i] += d
			}
		}
	}
}

// dotColumns sets dots to the products of A's row m with columns of B from n0 on.
func (e *Engine) dotColumns(dots []float32, t Term, m, n0 int) {
	k, q := t.A.cols, t.B.q
	x := t.A.f32[m*t.A.rs : m*t.A.rs+k]
	switch {
	case t.left != nil:
		at := n0 * q.blocks
		e.vec.dotIntegers(dots, t.left.row(m), q.codes[at*QuantBlock:], q.scales[at:])
	case q != nil:
		for i := range dots {
			dots[i] = e.dotRow(x, q, n0+i)
		}
	case t.B.f32 != nil:
		for i := range dots {
			off := (n0 + i) * t.B.cs
			dots[i] = e.vec.dot(x, t.B.f32[off:off+k])
		}
	case k%32 == 0 && k > 0 && t.B.cs == k:
		e.vec.dotRowsBF16(dots, x, t.B.bf16[n0*k:])
	default:
		for i := range dots {
			off := (n0 + i) * t.B.cs
			dots[i] = e.vec.dotBF16(x, t.B.bf16[off:off+k])
		}
	}
}

// dotRow is the product of x with row r of codes.
func (e *Engine) dotRow(x []float32, q *Quantized, r int) float32 {
	whole := q.cols / QuantBlock
	at, size := r*q.blocks, q.blockBytes()
	sum := e.vec.dotCodes(q.bits, x[:whole*QuantBlock], q.codes[at*size:(at+whole)*size], q.scales[at:at+whole])
	if whole == q.blocks {
		return sum
	}
	// The last block is filled with zeros beyond the row's end; x ends there.
	var last [QuantBlock]float32
	copy(last[:], x[whole*QuantBlock:])
	at += whole
	return sum + e.vec.dotCodes(q.bits, last[:], q.codes[at*size:(at+1)*size], q.scales[at:at+1])
}

// pureDotCodes sums a block up before it is scaled, as the assembly does.
func pureDotCodes(bits int, x []float32, codes []byte, scales []float32) float32 {
	var total float32
	for b, s := range scales {
		in := x[b*QuantBlock : (b+1)*QuantBlock]
		var sum float32
		if bits == 8 {
			for i, c := range codes[b*QuantBlock : (b+1)*QuantBlock] {
				sum += in[i] * float32(int8(c))
			}
		} else {
			const half = QuantBlock / 2
			for i, c := range codes[b*half : (b+1)*half] {
				sum += in[i]*float32(int(c&15)-8) + in[i+half]*float32(int(c>>4)-8)
			}
		}
		total += sum * s
	}
	return total
}
