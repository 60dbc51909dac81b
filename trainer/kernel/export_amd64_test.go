package kernel

// Peak runs n·12 fused multiply-adds of one instruction set's width and returns
// how many floating-point operations those are.
func Peak(isa ISA, n int) float64 {
	if isa == AVX512 {
		peakAVX512(n)
		return float64(n) * 12 * 16 * 2
	}
	peakAVX2(n)
	return float64(n) * 12 * 8 * 2
}
