package kernel

import "github.com/klauspost/cpuid/v2"

//go:generate sh -c "cd asmgen && go run . -out ../loops_amd64.s -stubs ../stubs_amd64.go -pkg kernel"

// Best returns the fastest instruction set of this processor.
func Best() ISA {
	switch c := cpuid.CPU; {
	case c.Supports(cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL, cpuid.AVX512BF16, cpuid.AVX2, cpuid.FMA3):
		return AVX512BF16
	case c.Supports(cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL, cpuid.AVX2, cpuid.FMA3):
		return AVX512
	case c.Supports(cpuid.AVX2, cpuid.FMA3):
		return AVX2
	}
	return Pure
}

// loops returns the inner loops of an instruction set. Packing and the vector
// loops are bound by memory, where AVX-512 gains nothing over AVX2.
func loops(isa ISA) (tile, vector) {
	if isa == Pure {
		return pureTile(), pureVector()
	}
	t := tile{mr: 6, nr: 16, pack: asmPackers(), decode: asmDequantize, full: wrap(micro256Full[:]), half: wrap(micro256Half[:])}
	if isa >= AVX512 {
		// LoRA's ranks would leave wide registers half empty.
		narrow := t
		t = tile{mr: 12, nr: 32, pack: asmPackers(), decode: asmDequantize, full: wrap(micro512Full[:]), half: wrap(micro512Half[:]), narrow: &narrow}
		if isa == AVX512BF16 {
			t.withPairs()
		}
	}
	return t, asmVector()
}

type asmMicro = func(c *float32, ldc int, a *float32, rs, cs int, b *float32, kc int, add bool, panels, tiles int)

// The micro-kernels by number of rows, from one.
var (
	micro512Full = [12]asmMicro{
		microAVX512_1x32, microAVX512_2x32, microAVX512_3x32, microAVX512_4x32, microAVX512_5x32, microAVX512_6x32,
		microAVX512_7x32, microAVX512_8x32, microAVX512_9x32, microAVX512_10x32, microAVX512_11x32, microAVX512_12x32,
	}
	micro512Half = [12]asmMicro{
		microAVX512_1x16, microAVX512_2x16, microAVX512_3x16, microAVX512_4x16, microAVX512_5x16, microAVX512_6x16,
		microAVX512_7x16, microAVX512_8x16, microAVX512_9x16, microAVX512_10x16, microAVX512_11x16, microAVX512_12x16,
	}
	micro256Full = [6]asmMicro{
		microAVX2_1x16, microAVX2_2x16, microAVX2_3x16, microAVX2_4x16, microAVX2_5x16, microAVX2_6x16,
	}
	micro256Half = [6]asmMicro{
		microAVX2_1x8, microAVX2_2x8, microAVX2_3x8, microAVX2_4x8, microAVX2_5x8, microAVX2_6x8,
	}
)

// wrap adapts micro-kernels to slices; index 0 is never called.
func wrap(asm []asmMicro) []microKernel {
	out := make([]microKernel, 1, len(asm)+1)
	for _, f := range asm {
		out = append(out, func(c []float32, ldc int, a []float32, rs, cs int, b []float32, kc int, add bool, panels, tiles int) {
			f(&c[0], ldc, &a[0], rs, cs, &b[0], kc, add, panels, tiles)
		})
	}
	return out
}
