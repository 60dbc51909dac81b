package gguf

import "github.com/klauspost/cpuid/v2"

// Encoders gives Quantize by each set of loops that this processor has.
func Encoders() map[string]func(dst []byte, t Type, values []float32) error {
	sets := map[string]func([]byte, Type, []float32) error{"pure": pureLoops().quantize}
	if cpuid.CPU.Supports(cpuid.AVX2, cpuid.F16C) {
		sets["avx2"] = vectorLoops().quantize
	}
	if cpuid.CPU.Supports(cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL) {
		sets["avx512"] = wideLoops().quantize
	}
	return sets
}
