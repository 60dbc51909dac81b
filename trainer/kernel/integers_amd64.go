package kernel

import "github.com/klauspost/cpuid/v2"

func asmQuantizeLeft(codes, magnitudes []byte, scales, x []float32) {
	if n := len(scales); n > 0 {
		codes, magnitudes, x = codes[:n*QuantBlock], magnitudes[:n*QuantBlock], x[:n*QuantBlock]
		quantizeLeftAVX2(&codes[0], &magnitudes[0], &scales[0], &x[0], n)
	}
}

// asmDotIntegers gives the loops that make integers with the best instructions there
// are; the sums are the same.
func asmDotIntegers() func(out []float32, left blocksOf8, codes []byte, scales []float32) {
	loop := dotIntegersAVX2
	if cpuid.CPU.Supports(cpuid.AVX512VNNI, cpuid.AVX512VL) {
		loop = dotIntegersVNNI
	}
	return wrapDotIntegers(loop)
}

func wrapDotIntegers(loop func(out *float32, codes, magnitudes *byte, left *float32, w *byte, scales *float32, blocks, rows int)) func(out []float32, left blocksOf8, codes []byte, scales []float32) {
	return func(out []float32, left blocksOf8, codes []byte, scales []float32) {
		n := left.blocks
		if len(out) == 0 || n == 0 {
			clear(out)
			return
		}
		codes, scales = codes[:len(out)*n*QuantBlock], scales[:len(out)*n]
		loop(&out[0], &left.codes[0], &left.magnitudes[0], &left.scales[0], &codes[0], &scales[0], n, len(out))
	}
}

func asmDotRowsBF16(out, x []float32, w []uint16) {
	if len(out) > 0 {
		w = w[:len(out)*len(x)]
		dotRowsBF16AVX2(&out[0], &x[0], &w[0], len(x), len(out))
	}
}
