package kernel

// Peak runs n·12 fused multiply-adds of one instruction set's width on the calling
// thread, in registers alone, and returns how many floating-point operations those are:
// what no product can exceed, for benchmarks to be read against. It is 0 for loops in Go.
func Peak(isa ISA, n int) (operations float64) {
	switch isa {
	case AVX512BF16: // two multiply-adds a lane
		peakBF16(n)
		return float64(n) * 12 * 32 * 2
	case AVX512:
		peakAVX512(n)
		return float64(n) * 12 * 16 * 2
	case AVX2:
		peakAVX2(n)
		return float64(n) * 12 * 8 * 2
	}
	return 0
}
