package kernel

import "math"

// A matrix with integers takes part in products of few rows by integer arithmetic: the
// left operand is rounded to blocks of 32 codes as well, and codes are multiplied with
// codes. This is how llama.cpp computes with Q8_0. The rounding of the left operand
// costs about as much exactness again as that of the matrix; products of many rows
// decode the codes and round nothing else.

// SetIntegers makes the products of a matrix of 8-bit codes with up to four rows round
// the other operand too: for generation, which reads every weight for each token. It is
// set before rows are, which it also makes faster to encode: their codes may differ in
// ties from those of a matrix without.
func (q *Quantized) SetIntegers() {
	if q.bits != 8 {
		panic("kernel: integers are for codes of 8 bits")
	}
	_, best := loops(Best())
	q.quantize = best.quantizeLeft
}

// quantizer rounds len(scales) blocks of x.
type quantizer func(codes, magnitudes []byte, scales, x []float32)

func (q *Quantized) integers() bool { return q != nil && q.quantize != nil }

// blocksOf8 are rows that are rounded to blocks of 8-bit codes.
type blocksOf8 struct {
	blocks            int // in a row; the last one is filled with zeros
	codes, magnitudes []byte
	scales            []float32
}

func (b *blocksOf8) row(m int) blocksOf8 {
	size := b.blocks * QuantBlock
	return blocksOf8{b.blocks, b.codes[m*size : (m+1)*size], b.magnitudes[m*size : (m+1)*size], b.scales[m*b.blocks : (m+1)*b.blocks]}
}

// round rounds the rows of a.
func (b *blocksOf8) round(v *vector, a Matrix) {
	b.blocks = (a.cols + QuantBlock - 1) / QuantBlock
	n := a.rows * b.blocks
	if cap(b.scales) < n {
		b.codes, b.magnitudes, b.scales = make([]byte, n*QuantBlock), make([]byte, n*QuantBlock), make([]float32, n)
	}
	b.codes, b.magnitudes, b.scales = b.codes[:n*QuantBlock], b.magnitudes[:n*QuantBlock], b.scales[:n]
	for m := range a.rows {
		r := b.row(m)
		r.roundRow(v.quantizeLeft, a.f32[m*a.rs:][:a.cols])
	}
}

// roundRow rounds x to the one row that there is.
func (b *blocksOf8) roundRow(quantize quantizer, x []float32) {
	whole := len(x) / QuantBlock
	quantize(b.codes, b.magnitudes, b.scales[:whole], x)
	if whole < b.blocks {
		var last [QuantBlock]float32
		copy(last[:], x[whole*QuantBlock:])
		quantize(b.codes[whole*QuantBlock:], b.magnitudes[whole*QuantBlock:], b.scales[whole:], last[:])
	}
}

// roundForIntegers returns the products with the left operands of terms that are
// computed with integers rounded. The rounded rows live until the next call; terms that
// share an operand share its rounding.
func (e *Engine) roundForIntegers(products []Product) []Product {
	l := &e.left
	l.used, l.terms, l.products = 0, l.terms[:0], append(l.products[:0], products...)
	for i := range l.products {
		p := &l.products[i]
		if !p.byIntegers() {
			continue
		}
		from := len(l.terms)
		l.terms = append(l.terms, p.Terms...)
		p.Terms = l.terms[from:len(l.terms):len(l.terms)] // stays valid where the list moves
		for j := range p.Terms {
			if t := &p.Terms[j]; t.B.q.integers() && t.A.rows*t.A.cols > 0 {
				t.left = l.rounded(&e.vec, t.A)
			}
		}
	}
	return l.products
}

// leftRows are the rounded left operands of one call, with what leads to them, kept for
// the next call.
type leftRows struct {
	products []Product
	terms    []Term
	rows     []*blocksOf8
	of       []Matrix // of the first used ones
	used     int
}

// rounded gives the rounded rows of a.
func (l *leftRows) rounded(v *vector, a Matrix) *blocksOf8 {
	for i, m := range l.of[:l.used] {
		if &m.f32[0] == &a.f32[0] && m.rows == a.rows && m.cols == a.cols && m.rs == a.rs {
			return l.rows[i]
		}
	}
	if l.used == len(l.rows) {
		l.rows, l.of = append(l.rows, &blocksOf8{}), append(l.of, Matrix{})
	}
	b := l.rows[l.used]
	l.of[l.used] = a
	l.used++
	b.round(v, a)
	return b
}

// byIntegers says whether a term of the product is computed with integers.
func (p *Product) byIntegers() bool {
	if p.C.rows > maxDotRows || !canDot(p) {
		return false
	}
	for _, t := range p.Terms {
		if t.B.q.integers() {
			return true
		}
	}
	return false
}

func pureQuantizeLeft(codes, magnitudes []byte, scales, x []float32) {
	for b := range scales {
		block := x[b*QuantBlock:][:QuantBlock]
		top := uint32(0) // as bits, among which NaN is the largest
		for _, v := range block {
			top = max(top, math.Float32bits(v)&^(1<<31))
		}
		scale := math.Float32frombits(top) / 127
		scales[b] = scale
		inverse := 1 / scale
		if !(inverse < float32(math.Inf(1))) {
			inverse = 0
		}
		for i, v := range block {
			c := int8(0)
			if r := v * inverse; r == r && r-r == 0 { // a number that is finite
				c = int8(math.RoundToEven(float64(r)))
			}
			codes[b*QuantBlock+i], magnitudes[b*QuantBlock+i] = byte(c), byte(max(c, -c))
		}
	}
}

func pureDotIntegers(out []float32, left blocksOf8, codes []byte, scales []float32) {
	for r := range out {
		var lanes [8]float32
		for b, s := range left.scales {
			x, w := left.codes[b*QuantBlock:][:QuantBlock], codes[(r*left.blocks+b)*QuantBlock:][:QuantBlock]
			both := s * scales[r*left.blocks+b]
			for l := range lanes {
				sum := int32(0)
				for i := 4 * l; i < 4*l+4; i++ {
					sum += int32(int8(x[i])) * int32(int8(w[i]))
				}
				lanes[l] += float32(sum) * both
			}
		}
		out[r] = ((lanes[0] + lanes[4]) + (lanes[2] + lanes[6])) + ((lanes[1] + lanes[5]) + (lanes[3] + lanes[7]))
	}
}
