package kernel

import "github.com/klauspost/cpuid/v2"

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
