package kernel

import (
	"fmt"
	"math"
)

// QuantBlock is the number of codes that share a scale.
const QuantBlock = 32

// Quantized is a matrix of 8- or 4-bit codes, in blocks of 32 along its rows
// with one float32 scale each; a value is code times scale. The blocks are those
// of GGUF's Q8_0 and Q4_0 (ggml-quants.c) but for the scale, which is not cut to
// 16 bits: 9 and 5 bits a value. It serves as the right-hand operand of products,
// which decode it block by block into the panels that they pack anyway; the whole
// matrix never exists as float32.
type Quantized struct {
	bits, rows, cols int
	quantize         quantizer // nil without SetIntegers
	blocks           int       // in a row; the last one is filled with zeros
	codes            []byte
	scales           []float32
}

// NewQuantized makes a matrix of zeros with codes of 8 or 4 bits; SetRow fills it.
func NewQuantized(bits, rows, cols int) *Quantized {
	q := newQuantized(bits, rows, cols)
	codes, scales := q.sizes()
	q.codes, q.scales = make([]byte, codes), make([]float32, scales)
	return q
}

// newQuantized lacks codes and scales, of which sizes gives the numbers.
func newQuantized(bits, rows, cols int) *Quantized {
	if bits != 8 && bits != 4 || rows < 0 || cols < 0 {
		panic(fmt.Sprintf("kernel: no quantized matrix of %d bits and %dx%d", bits, rows, cols))
	}
	return &Quantized{bits: bits, rows: rows, cols: cols, blocks: (cols + QuantBlock - 1) / QuantBlock}
}

func (q *Quantized) sizes() (codes, scales int) {
	return q.rows * q.blocks * q.blockBytes(), q.rows * q.blocks
}

func (q *Quantized) blockBytes() int { return QuantBlock * q.bits / 8 }

// Shape is what the matrix was made with.
func (q *Quantized) Shape() (rows, cols int) { return q.rows, q.cols }

// Len is the number of values, Bytes what they take.
func (q *Quantized) Len() int   { return q.rows * q.cols }
func (q *Quantized) Bytes() int { return len(q.codes) + 4*len(q.scales) }

// Matrix views the values, [rows, cols].
func (q *Quantized) Matrix() Matrix {
	return Matrix{q: q, rows: q.rows, cols: q.cols, rs: q.cols, cs: 1}
}

// SetRow quantizes one row. Rows may be set side by side.
func (q *Quantized) SetRow(r int, values []float32) {
	if len(values) != q.cols {
		panic(fmt.Sprintf("kernel: a row of %d values for a matrix of %d columns", len(values), q.cols))
	}
	if q.quantize != nil {
		at, size := r*q.blocks, QuantBlock
		row := blocksOf8{blocks: q.blocks, codes: q.codes[at*size : (at+q.blocks)*size], magnitudes: make([]byte, q.blocks*size), scales: q.scales[at : at+q.blocks]}
		row.roundRow(q.quantize, values)
		return
	}
	var block [QuantBlock]float32
	for b := range q.blocks {
		clear(block[copy(block[:], values[b*QuantBlock:]):])
		at := r*q.blocks + b
		codes := q.codes[at*q.blockBytes() : (at+1)*q.blockBytes()]
		if q.bits == 8 {
			q.scales[at] = quantize8(codes, &block)
		} else {
			q.scales[at] = quantize4(codes, &block)
		}
	}
}

// quantize8 maps the largest magnitude to 127.
func quantize8(codes []byte, block *[QuantBlock]float32) (scale float32) {
	var top float32
	for _, v := range block {
		top = max(top, float32(math.Abs(float64(v))))
	}
	scale = top / 127
	if !(scale > 0) || math.IsInf(float64(scale), 0) {
		clear(codes)
		return scale // zero, or what a damaged weight made of it: NaN stays seen
	}
	inv := 1 / float64(scale)
	for i, v := range block {
		codes[i] = byte(int8(min(127, int(float64(v)*inv+128.5)-128)))
	}
	return scale
}

// quantize4 tries scales around the one that maps the largest magnitude to -8
// or 7, and keeps that of the least squared error.
func quantize4(codes []byte, block *[QuantBlock]float32) (scale float32) {
	var top, signed float32
	for _, v := range block {
		if a := float32(math.Abs(float64(v))); a > top || math.IsNaN(float64(a)) {
			top, signed = a, v
		}
	}
	if !(top > 0) || math.IsInf(float64(top), 0) {
		clear(codes)
		for i := range codes {
			codes[i] = 0x88 // the code of zero
		}
		return top
	}
	best := math.Inf(1)
	for _, divisor := range [...]float32{-8, -7.5, -7, -8.5, 7, 7.5} {
		s := signed / divisor
		inv := 1 / float64(s)
		var sum float64
		for _, v := range block {
			d := float64(v) - float64(s)*float64(code4(v, inv)-8)
			sum += d * d
		}
		if sum < best {
			best, scale = sum, s
		}
	}
	inv := 1 / float64(scale)
	for i := range QuantBlock / 2 {
		codes[i] = byte(code4(block[i], inv) | code4(block[i+QuantBlock/2], inv)<<4)
	}
	return scale
}

// code4 rounds v/scale to a code; the sum is positive, so that int rounds down.
func code4(v float32, inv float64) int { return min(15, int(max(0, float64(v)*inv+8.5))) }

// Row decodes one row into dst, [cols].
func (q *Quantized) Row(dst []float32, r int) {
	var block [QuantBlock]float32
	for b := range q.blocks {
		q.decode(pureDequantize, block[:], r, b, 1)
		copy(dst[b*QuantBlock:q.cols], block[:])
	}
}

// decode writes n blocks of a row from the b-th on to dst.
func (q *Quantized) decode(f dequantizer, dst []float32, r, b, n int) {
	at, size := r*q.blocks+b, q.blockBytes()
	f(q.bits, dst[:n*QuantBlock], q.codes[at*size:(at+n)*size], q.scales[at:at+n])
}

// dequantizer decodes len(scales) blocks.
type dequantizer func(bits int, dst []float32, codes []byte, scales []float32)

func pureDequantize(bits int, dst []float32, codes []byte, scales []float32) {
	for b, s := range scales {
		out := dst[b*QuantBlock : (b+1)*QuantBlock]
		if bits == 8 {
			for i, c := range codes[b*QuantBlock : (b+1)*QuantBlock] {
				out[i] = float32(int8(c)) * s
			}
			continue
		}
		const half = QuantBlock / 2
		for i, c := range codes[b*half : (b+1)*half] {
			out[i], out[i+half] = float32(int(c&15)-8)*s, float32(int(c>>4)-8)*s
		}
	}
}

// packQuantized is packPanel for a quantized right operand: it decodes what the
// panel needs into scratch and lays it out from there.
func (t *tile) packQuantized(s *scratch, dst []float32, w int, b Matrix, k0, kc, n0, n1 int) {
	q := b.q
	if !b.turned { // rows of the matrix run along n
		first := n0 / QuantBlock
		count := (n1-1)/QuantBlock - first + 1
		row := grow(&s.decoded, count*QuantBlock)
		from := n0 - first*QuantBlock
		for k := range kc {
			q.decode(t.decode, row, k0+k, first, count)
			line := dst[k*w : (k+1)*w]
			clear(line[copy(line, row[from:from+n1-n0]):])
		}
		return
	}
	// Rows of the matrix run along k.
	first := k0 / QuantBlock
	count := (k0+kc-1)/QuantBlock - first + 1
	ld := count * QuantBlock
	rows := grow(&s.decoded, (n1-n0)*ld)
	for n := n0; n < n1; n++ {
		q.decode(t.decode, rows[(n-n0)*ld:], n, first, count)
	}
	t.pack.colsF32(dst, w, rows[k0-first*QuantBlock:], ld, kc, n1-n0)
}
