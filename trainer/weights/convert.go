package weights

import (
	"encoding/binary"
	"fmt"
	"math"
)

// BF16ToF32 widens a bfloat16; exact.
func BF16ToF32(b uint16) float32 { return math.Float32frombits(uint32(b) << 16) }

// F32ToBF16 rounds to the nearest bfloat16, ties to even. A NaN stays a (quiet)
// NaN, what overflows becomes an infinity.
func F32ToBF16(f float32) uint16 {
	u := math.Float32bits(f)
	if u&0x7fffffff > 0x7f800000 {
		return uint16(u>>16) | 0x40
	}
	return uint16((u + 0x7fff + (u>>16)&1) >> 16)
}

// F16ToF32 widens an IEEE 754 binary16; exact, subnormals included. A NaN becomes a
// quiet one, as processors do it.
func F16ToF32(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp := uint32(h>>10) & 0x1f
	man := uint32(h & 0x3ff)
	switch exp {
	case 0:
		// Zero or subnormal: man * 2^-24 is exact in float32.
		f := float32(man) * (1.0 / (1 << 24))
		return math.Float32frombits(math.Float32bits(f) | sign)
	case 0x1f:
		if man != 0 {
			man |= 0x200
		}
		return math.Float32frombits(sign | 0x7f800000 | man<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | man<<13)
}

// F32ToF16 rounds to the nearest IEEE 754 binary16, ties to even, subnormals
// included. A NaN stays a quiet NaN; from 65520 on, the result is an infinity.
func F32ToF16(f float32) uint16 {
	u := math.Float32bits(f)
	sign := uint16(u>>16) & 0x8000
	u &= 0x7fffffff
	switch {
	case u > 0x7f800000:
		return sign | 0x7e00 | uint16(u>>13)&0x1ff
	case u >= 0x477ff000: // 65520, the tie between 65504 and 65536
		return sign | 0x7c00
	case u >= 0x38800000: // 2^-14, the smallest normal
		u -= 112 << 23
		return sign | uint16((u+0xfff+(u>>13)&1)>>13)
	case u < 0x33000000: // below 2^-25 everything rounds to zero
		return sign
	}
	// Subnormal result: shift the 24-bit significand to units of 2^-24.
	shift := 126 - u>>23
	man := u&0x7fffff | 0x800000
	half := uint32(1) << (shift - 1)
	return sign | uint16((man+half-1+(man>>shift)&1)>>shift)
}

// ToF32 decodes src, elements of dtype F32, F16 or BF16 in little-endian order,
// into dst. The lengths have to agree.
func ToF32(dst []float32, dtype string, src []byte) error {
	if err := checkLen(len(dst), dtype, len(src)); err != nil {
		return err
	}
	done := toF32Blocks(dst, dtype, src)
	dst, src = dst[done:], src[done*len(src)/max(1, len(dst)):]
	switch dtype {
	case F32:
		for i := range dst {
			dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(src[4*i:]))
		}
	case F16:
		for i := range dst {
			dst[i] = F16ToF32(binary.LittleEndian.Uint16(src[2*i:]))
		}
	case BF16:
		for i := range dst {
			dst[i] = BF16ToF32(binary.LittleEndian.Uint16(src[2*i:]))
		}
	}
	return nil
}

// FromF32 encodes src as elements of dtype F32, F16 or BF16 in little-endian
// order into dst, rounding to nearest even. The lengths have to agree.
func FromF32(dst []byte, dtype string, src []float32) error {
	if err := checkLen(len(src), dtype, len(dst)); err != nil {
		return err
	}
	done := fromF32Blocks(dst, dtype, src)
	dst, src = dst[done*len(dst)/max(1, len(src)):], src[done:]
	switch dtype {
	case F32:
		for i, f := range src {
			binary.LittleEndian.PutUint32(dst[4*i:], math.Float32bits(f))
		}
	case F16:
		for i, f := range src {
			binary.LittleEndian.PutUint16(dst[2*i:], F32ToF16(f))
		}
	case BF16:
		for i, f := range src {
			binary.LittleEndian.PutUint16(dst[2*i:], F32ToBF16(f))
		}
	}
	return nil
}

func checkLen(elems int, dtype string, bytes int) error {
	size := 2
	switch dtype {
	case F32:
		size = 4
	case F16, BF16:
	default:
		return fmt.Errorf("weights: cannot convert dtype %q: want F32, F16 or BF16", dtype)
	}
	if bytes != elems*size {
		return fmt.Errorf("weights: %d bytes of %s are not %d elements", bytes, dtype, elems)
	}
	return nil
}
