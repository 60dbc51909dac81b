package gguf

import (
	"encoding/binary"
	"fmt"

	"github.com/tunemesh/tunemesh/trainer/weights"
)

// Dequantize decodes src, whole blocks of format t, into dst. The lengths have to
// agree. Results equal those of dequantize_row_* in ggml-quants.c bit for bit: the
// same products and sums in float32, in the same order, never fused.
func Dequantize(dst []float32, t Type, src []byte) error {
	name, elems, size, ok := t.layout()
	if !ok {
		return fmt.Errorf("gguf: unknown %s", t)
	}
	if int64(len(dst))%elems != 0 || int64(len(dst))/elems*size != int64(len(src)) {
		return fmt.Errorf("gguf: %d bytes of %s are not %d values", len(src), name, len(dst))
	}
	switch t {
	case F32, F16, BF16:
		return weights.ToF32(dst, name, src)
	}
	decode := blockDecoder(t)
	if decode == nil {
		return fmt.Errorf("gguf: %s is not decoded; there are F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K and Q6_K", name)
	}
	for ; len(dst) > 0; dst, src = dst[elems:], src[size:] {
		decode(dst[:elems], src[:size])
	}
	return nil
}

// Decodes says whether Dequantize knows the format.
func (t Type) Decodes() bool { return t == F32 || t == F16 || t == BF16 || blockDecoder(t) != nil }

// Quantized says whether values share a scale in blocks, so that few of them are
// exact in any 16-bit format.
func (t Type) Quantized() bool { _, elems, _, _ := t.layout(); return elems > 1 }

func blockDecoder(t Type) func(dst []float32, b []byte) {
	switch t {
	case Q4_0:
		return decodeQ4_0
	case Q4_1:
		return decodeQ4_1
	case Q5_0:
		return decodeQ5_0
	case Q5_1:
		return decodeQ5_1
	case Q8_0:
		return decodeQ8_0
	case Q4_K:
		return decodeQ4_K
	case Q5_K:
		return decodeQ5_K
	case Q6_K:
		return decodeQ6_K
	}
	return nil
}

// half reads a float16 scale.
func half(b []byte) float32 { return weights.F16ToF32(binary.LittleEndian.Uint16(b)) }

// The simple formats hold 32 values. Of the nibbles in 16 bytes the low ones are the
// values 0 to 15, the high ones 16 to 31. Layouts: ggml-common.h, block_q4_0 and on.

// scale d, nibbles: d*(q-8)
func decodeQ4_0(dst []float32, b []byte) {
	d := half(b)
	for i, q := range b[2:18] {
		dst[i] = float32(int(q&15)-8) * d
		dst[i+16] = float32(int(q>>4)-8) * d
	}
}

// scale d, minimum m, nibbles: d*q + m
func decodeQ4_1(dst []float32, b []byte) {
	d, m := half(b), half(b[2:])
	for i, q := range b[4:20] {
		// The conversion keeps the compiler from fusing product and sum.
		dst[i] = float32(float32(q&15)*d) + m
		dst[i+16] = float32(float32(q>>4)*d) + m
	}
}

// scale d, the fifth bits of all values, nibbles: d*(q-16)
func decodeQ5_0(dst []float32, b []byte) {
	d, high := half(b), binary.LittleEndian.Uint32(b[2:])
	for i, q := range b[6:22] {
		dst[i] = float32(int(uint32(q&15)|high>>i&1<<4)-16) * d
		dst[i+16] = float32(int(uint32(q>>4)|high>>(i+16)&1<<4)-16) * d
	}
}

// scale d, minimum m, the fifth bits, nibbles: d*q + m
func decodeQ5_1(dst []float32, b []byte) {
	d, m, high := half(b), half(b[2:]), binary.LittleEndian.Uint32(b[4:])
	for i, q := range b[8:24] {
		dst[i] = float32(float32(uint32(q&15)|high>>i&1<<4)*d) + m
		dst[i+16] = float32(float32(uint32(q>>4)|high>>(i+16)&1<<4)*d) + m
	}
}

// scale d, signed bytes: d*q
func decodeQ8_0(dst []float32, b []byte) {
	d := half(b)
	for i, q := range b[2:34] {
		dst[i] = float32(int8(q)) * d
	}
}
