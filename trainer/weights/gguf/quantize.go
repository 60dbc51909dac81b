package gguf

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/tunemesh/tunemesh/trainer/weights"
)

// Quantize encodes values, whole blocks, in format t into dst, whose length has to
// agree. The bytes are those of ggml's own quantizers without an importance matrix
// (quantize_row_*_ref in ggml-quants.c): the same products and sums in float32, in
// the same order, never fused. Values that the format cannot hold are refused.
func Quantize(dst []byte, t Type, values []float32) error {
	name, elems, size, ok := t.layout()
	if !ok || !t.Encodes() {
		return fmt.Errorf("gguf: %s is not written", t)
	}
	if int64(len(values))%elems != 0 || int64(len(values))/elems*size != int64(len(dst)) {
		return fmt.Errorf("gguf: %d values are not %d bytes of %s", len(values), len(dst), name)
	}
	return fastest().quantize(dst, t, values)
}

// quantize is Quantize for lengths that agree.
func (l loops) quantize(dst []byte, t Type, values []float32) error {
	switch t {
	case F32, BF16:
		return weights.FromF32(dst, t.String(), values)
	case F16:
		return l.encodeF16(dst, values)
	}
	encode, limit := l.blockEncoder(t)
	if !l.within(values, limit) {
		for _, v := range values {
			if !(abs(v) <= limit) {
				return fmt.Errorf("a value of %g cannot be quantized to %s", v, t)
			}
		}
	}
	encode(dst, values)
	return nil
}

// Encodes says whether Quantize knows the format.
func (t Type) Encodes() bool {
	_, limit := loops{}.blockEncoder(t)
	return t == F32 || t == F16 || t == BF16 || limit > 0
}

// blockEncoder gives the encoder of whole blocks and the largest absolute value whose
// scale is finite in half precision.
func (l loops) blockEncoder(t Type) (encode func(dst []byte, x []float32), limit float32) {
	const half = 65504
	switch t {
	case Q5_0:
		return encodeQ5_0, half * 16
	case Q8_0:
		return l.q8, half * 127
	case Q4_K:
		return l.encodeQ4_K, half * 15
	case Q6_K:
		return l.encodeQ6_K, half * 32 * 127
	}
	return nil, 0
}

// encodeF16 refuses what would become an infinity and is none.
func (l loops) encodeF16(dst []byte, values []float32) error {
	if !l.within(values, 65504) {
		for _, v := range values {
			if weights.F32ToF16(v)&0x7fff == 0x7c00 && !math.IsInf(float64(v), 0) {
				return fmt.Errorf("%g is too large for F16; export as BF16", v)
			}
		}
	}
	return weights.FromF32(dst, weights.F16, values)
}

// largest gives the value that is farthest from 0, the first of several.
func largest(x []float32) (value, distance float32) {
	for _, v := range x {
		if a := abs(v); a > distance {
			value, distance = v, a
		}
	}
	return value, distance
}

func abs(v float32) float32 { return math.Float32frombits(math.Float32bits(v) &^ (1 << 31)) }

// inverse is 1/d, and 0 for the scale of a block of zeros, or of values too small
// for any scale.
func inverse(d float32) float32 {
	if i := 1 / d; !math.IsInf(float64(i), 0) {
		return i
	}
	return 0
}

// encodeQ8_0: for each 32 values a scale d and bytes x/d. The quotient uses the scale
// before it is rounded to half; ties go away from zero.
func encodeQ8_0(dst []byte, x []float32) {
	for ; len(x) > 0; x, dst = x[32:], dst[34:] {
		_, top := largest(x[:32])
		d := top / 127
		id := inverse(d)
		binary.LittleEndian.PutUint16(dst, weights.F32ToF16(d))
		for i, v := range x[:32] {
			dst[2+i] = byte(int8(math.Round(float64(v * id))))
		}
	}
}

// encodeQ5_0: the value farthest from 0 becomes -16, scale d, the fifth bits of all
// in four bytes, nibbles.
func encodeQ5_0(dst []byte, x []float32) {
	for ; len(x) > 0; x, dst = x[32:], dst[22:] {
		encodeBlockQ5_0(dst[:22], x[:32])
	}
}

func encodeBlockQ5_0(dst []byte, x []float32) {
	top, _ := largest(x)
	d := top / -16
	id := float32(0)
	if d != 0 {
		id = 1 / d
	}
	binary.LittleEndian.PutUint16(dst, weights.F32ToF16(d))
	high := uint32(0)
	for i := range 16 {
		a := min(31, int(int8(float32(x[i]*id)+16.5)))
		b := min(31, int(int8(float32(x[i+16]*id)+16.5)))
		dst[6+i] = byte(a&15 | b&15<<4)
		high |= uint32(a>>4&1)<<i | uint32(b>>4&1)<<(i+16)
	}
	binary.LittleEndian.PutUint32(dst[2:], high)
}
