package gguf

// The K formats hold 256 values in sub-blocks with scales of their own, which are
// themselves small integers times a half-precision scale. Layouts: ggml-common.h,
// block_q4_K, block_q5_K, block_q6_K.

// scalesK gives the 6-bit scale and minimum of each of the eight sub-blocks of Q4_K
// and Q5_K, packed in 12 bytes: the first four bytes hold four scales, the next four
// their minima, in six bits each; the last four hold the low nibbles of the other
// scales and minima, whose two high bits are the rest of the first eight bytes.
func scalesK(p []byte) (scale, minimum [8]byte) {
	for j := range 4 {
		scale[j], minimum[j] = p[j]&63, p[j+4]&63
		scale[j+4] = p[j+8]&15 | p[j]>>6<<4
		minimum[j+4] = p[j+8]>>4 | p[j+4]>>6<<4
	}
	return scale, minimum
}

// scale d, scale of the minima, packed scales, nibbles: d*scale*q - dmin*minimum.
// Each 32 bytes of nibbles are two sub-blocks, the low ones first.
func decodeQ4_K(dst []float32, b []byte) {
	d, dmin := half(b), half(b[2:])
	scale, minimum := scalesK(b[4:16])
	for j := range 8 {
		s, m := d*float32(scale[j]), dmin*float32(minimum[j])
		shift := j % 2 * 4
		for i, q := range b[16+j/2*32:][:32] {
			dst[32*j+i] = float32(s*float32(q>>shift&15)) - m
		}
	}
}

// The same with a fifth bit: bit j of byte i is that of value i of sub-block j.
func decodeQ5_K(dst []float32, b []byte) {
	d, dmin := half(b), half(b[2:])
	scale, minimum := scalesK(b[4:16])
	high := b[16:48]
	for j := range 8 {
		s, m := d*float32(scale[j]), dmin*float32(minimum[j])
		shift := j % 2 * 4
		for i, q := range b[48+j/2*32:][:32] {
			dst[32*j+i] = float32(s*float32(q>>shift&15|high[i]>>j&1<<4)) - m
		}
	}
}

// 128 bytes of low nibbles, 64 of high pairs of bits, a signed scale for each 16
// values, scale d: d*scale*(q-32). In each half of 128 values, quarter k of 32 has
// the nibbles of bytes 32*(k%2) on, low for the first two quarters, and bits 2k and
// 2k+1 of the high bytes.
func decodeQ6_K(dst []float32, b []byte) {
	d := half(b[208:])
	for n := range 2 {
		low, high, scales := b[64*n:][:64], b[128+32*n:][:32], b[192+8*n:][:8]
		for k := range 4 {
			for i, h := range high {
				q := int(low[k%2*32+i]>>(k/2*4)&15 | h>>(2*k)&3<<4)
				dst[128*n+32*k+i] = float32(d*float32(int8(scales[2*k+i/16]))) * float32(q-32)
			}
		}
	}
}
