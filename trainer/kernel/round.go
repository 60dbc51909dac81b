package kernel

import "math"

// A term with Round multiplies values that are rounded to bfloat16. Its products
// are then exact in float32, and each element is the same chain in the order of k
// as without: so its bits are those of the float32 loops given rounded values,
// whichever loops compute it (below 1.2e-38, where VDPBF16PS gives zero, they may
// differ). Where the processor has AVX512_BF16, two products go through one
// instruction; elsewhere the float32 loops do the work, slower but alike.

// RoundBF16 rounds to the nearest bfloat16, ties to even, as VCVTNE2PS2BF16 does:
// denormal values become zero, NaN stays NaN.
func RoundBF16(v float32) float32 {
	return fromBF16(roundBF16(v))
}

func roundBF16(v float32) uint16 {
	b := math.Float32bits(v)
	switch {
	case v != v:
		return uint16(b>>16) | 1<<6
	case b&0x7f800000 == 0:
		return uint16(b>>16) & 0x8000
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// rounded is a left operand as the loops want it: pairs, or rounded values where
// there are no loops for pairs.
type rounded struct {
	of     Matrix
	stride int // between rows, in pairs or values
	at     int // where it begins in Engine.rounds
}

// roundTerms returns the products with the left operands of terms to be rounded
// replaced by rounded ones, which live until the next call. Products that share
// an operand share its rounding.
func (e *Engine) roundTerms(products []Product) []Product {
	var list []rounded
	size := 0
	find := func(a Matrix) rounded {
		for _, r := range list {
			if &r.of.f32[0] == &a.f32[0] && r.of.rows == a.rows && r.of.cols == a.cols && r.of.rs == a.rs {
				return r
			}
		}
		r := rounded{of: a, at: size, stride: a.cols}
		if e.tile.paired != nil {
			r.stride = (a.cols + 1) / 2
		}
		if r.stride%256 == 0 {
			r.stride += 16 // rows a multiple of 4 KiB apart evict each other
		}
		size += a.rows * r.stride
		list = append(list, r)
		return r
	}
	out := make([]Product, len(products))
	var terms []*Term
	for i, p := range products {
		out[i] = p
		out[i].Terms = append([]Term(nil), p.Terms...)
		for j := range out[i].Terms {
			if t := &out[i].Terms[j]; t.Round && t.A.rows*t.A.cols > 0 {
				terms = append(terms, t)
				find(t.A)
			}
		}
	}
	buf := grow(&e.rounds, size)
	for _, t := range terms {
		r := find(t.A)
		t.A = Matrix{f32: buf[r.at:], rows: t.A.rows, cols: t.A.cols, rs: r.stride, cs: 1}
		t.paired = e.tile.paired != nil
	}
	for _, r := range list {
		e.Rows(r.of.rows, r.of.cols, func(r0, r1 int) {
			for i := r0; i < r1; i++ {
				from, to := r.of.f32[i*r.of.rs:][:r.of.cols], buf[r.at+i*r.stride:][:r.stride]
				if e.tile.paired != nil {
					e.tile.roundPairs(to, from)
					continue
				}
				for k, v := range from {
					to[k] = RoundBF16(v)
				}
			}
		})
	}
	return out
}

// pair holds two neighbours along k, the first in the upper half, in the bits of
// a float32 with which nobody calculates.
func pair(first, second uint16) float32 {
	return math.Float32frombits(uint32(first)<<16 | uint32(second))
}

// pairsOf rounds values to pairs; the last one of an odd number stands with zero.
func pairsOf(dst, src []float32) {
	for i := range (len(src) + 1) / 2 {
		second := uint16(0)
		if 2*i+1 < len(src) {
			second = roundBF16(src[2*i+1])
		}
		dst[i] = pair(roundBF16(src[2*i]), second)
	}
}

// packPairs lays out kc rows of a bfloat16 matrix as packPanel does, two rows as
// one row of pairs, zeros beyond nw and after an odd last row.
func packPairs(dst []float32, w int, src []uint16, rs, cs, kc, nw int) {
	for k := 0; k < kc; k += 2 {
		row := dst[k/2*w : (k/2+1)*w]
		clear(row[nw:])
		for j := range nw {
			at, second := k*rs+j*cs, uint16(0)
			if k+1 < kc {
				second = src[at+rs]
			}
			row[j] = pair(src[at], second)
		}
	}
}
