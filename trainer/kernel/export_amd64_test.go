package kernel

import "github.com/klauspost/cpuid/v2"

// Peak runs n·12 fused multiply-adds of one instruction set's width and returns
// how many floating-point operations those are.
func Peak(isa ISA, n int) float64 {
	switch isa {
	case AVX512BF16: // two multiply-adds a lane
		peakBF16(n)
		return float64(n) * 12 * 32 * 2
	case AVX512:
		peakAVX512(n)
		return float64(n) * 12 * 16 * 2
	}
	peakAVX2(n)
	return float64(n) * 12 * 8 * 2
}

// IntegerEngines are engines that differ in the instructions by which they multiply
// codes, as far as this processor has them.
func IntegerEngines() []*Engine {
	if Best() < AVX2 {
		return nil
	}
	loops := []func(*float32, *byte, *byte, *float32, *byte, *float32, int, int){dotIntegersAVX2}
	if cpuid.CPU.Supports(cpuid.AVX512VNNI, cpuid.AVX512VL) {
		loops = append(loops, dotIntegersVNNI)
	}
	var list []*Engine
	for _, l := range loops {
		e := New(Best())
		e.vec.dotIntegers = wrapDotIntegers(l)
		list = append(list, e)
	}
	return list
}
