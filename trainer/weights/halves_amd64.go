package weights

import (
	"unsafe"

	"github.com/klauspost/cpuid/v2"
)

//go:generate sh -c "cd ../kernel/asmgen && go run . halves -out ../../weights/halves_amd64.s -stubs ../../weights/halvesstubs_amd64.go -pkg weights"

// The two conversions do whole blocks of 32 values and give the number of values that
// are done; the loops in Go do the rest, with the same results.

func toF32Blocks(dst []float32, dtype string, src []byte) int {
	n := len(dst) / 32
	if n == 0 || !cpuid.CPU.Supports(cpuid.AVX2, cpuid.F16C) {
		return 0
	}
	switch dtype {
	case F32:
		copy(unsafe.Slice((*byte)(unsafe.Pointer(&dst[0])), 128*n), src)
	case F16:
		fromF16(&dst[0], &src[0], n)
	case BF16:
		fromBF16(&dst[0], &src[0], n)
	}
	return 32 * n
}

func fromF32Blocks(dst []byte, dtype string, src []float32) int {
	n := len(src) / 32
	if n == 0 || !cpuid.CPU.Supports(cpuid.AVX2, cpuid.F16C) {
		return 0
	}
	switch dtype {
	case F32:
		copy(dst, unsafe.Slice((*byte)(unsafe.Pointer(&src[0])), 128*n))
	case F16:
		toF16(&dst[0], &src[0], n)
	case BF16:
		toBF16(&dst[0], &src[0], n)
	}
	return 32 * n
}
