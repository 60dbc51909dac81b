package gguf

import "github.com/klauspost/cpuid/v2"

//go:generate sh -c "cd ../../kernel/asmgen && go run . blocks -out ../../weights/gguf/loops_amd64.s -stubs ../../weights/gguf/stubs_amd64.go -pkg gguf"

// fastest gives the best loops of this processor.
func fastest() loops {
	switch c := cpuid.CPU; {
	case c.Supports(cpuid.AVX512F, cpuid.AVX512BW, cpuid.AVX512DQ, cpuid.AVX512VL, cpuid.AVX2, cpuid.F16C):
		return wideLoops()
	case c.Supports(cpuid.AVX2, cpuid.F16C):
		return vectorLoops()
	}
	return pureLoops()
}

// vectorLoops take eight groups at a time, with AVX2.
func vectorLoops() loops { return loops{scaleMin8, scale8, levelsVector, q8Vector, withinVector} }

// wideLoops take sixteen groups at a time, with AVX-512, where there are as many. The
// other loops have nothing to gain from it.
func wideLoops() loops { return loops{scaleMin16, scale16, levelsVector, q8Vector, withinVector} }

// turn stores groups of width values side by side: value i of group g at i*groups+g.
func turn(dst, x []float32, groups, width int) {
	for g := 0; g < groups; g += 8 {
		transpose8(&dst[g], groups, &x[g*width], width, width/8)
	}
}

func scaleMin8(x, scales, mins []float32) {
	const groups = 8
	var turned [32 * groups]float32
	var scratch [(64 + 7) * groups]float32
	for len(scales) >= groups {
		turn(turned[:], x[:32*groups], groups, 32)
		_ = mins[groups-1]
		searchScaleMinAVX2(&turned[0], &scratch[0], &scales[0], &mins[0])
		x, scales, mins = x[32*groups:], scales[groups:], mins[groups:]
	}
}

func scaleMin16(x, scales, mins []float32) {
	const groups = 16
	if len(scales) < groups {
		scaleMin8(x, scales, mins)
		return
	}
	var turned [32 * groups]float32
	var scratch [(64 + 7) * groups]float32
	for len(scales) >= groups {
		turn(turned[:], x[:32*groups], groups, 32)
		_ = mins[groups-1]
		searchScaleMinAVX512(&turned[0], &scratch[0], &scales[0], &mins[0])
		x, scales, mins = x[32*groups:], scales[groups:], mins[groups:]
	}
	scaleMin8(x, scales, mins)
}

func scale8(x, scales []float32) {
	const groups = 8
	var turned [16 * groups]float32
	var scratch [32 * groups]float32
	for len(scales) >= groups {
		turn(turned[:], x[:16*groups], groups, 16)
		searchScaleAVX2(&turned[0], &scratch[0], &scales[0])
		x, scales = x[16*groups:], scales[groups:]
	}
}

func scale16(x, scales []float32) {
	const groups = 16
	var turned [16 * groups]float32
	var scratch [32 * groups]float32
	for len(scales) >= groups {
		turn(turned[:], x[:16*groups], groups, 16)
		searchScaleAVX512(&turned[0], &scratch[0], &scales[0])
		x, scales = x[16*groups:], scales[groups:]
	}
}

func levelsVector(q []byte, x, steps, offsets []float32, low, high, lift int32) {
	if n := len(steps); n > 0 {
		q, x, offsets = q[:16*n], x[:16*n], offsets[:n]
		levelsAVX2(&q[0], &x[0], &steps[0], &offsets[0], n, int(low), int(high), int(lift))
	}
}

func q8Vector(dst []byte, x []float32) {
	if n := len(x) / 32; n > 0 {
		dst = dst[:34*n]
		encodeQ8AVX2(&dst[0], &x[0], n)
	}
}

func withinVector(x []float32, limit float32) bool {
	n := len(x) / 32
	if n > 0 && !withinAVX2(&x[0], n, limit) {
		return false
	}
	return within(x[32*n:], limit)
}
