// Command asmgen writes the amd64 assembly of package kernel: the micro-kernels
// of the matrix product, the packing of its right operand, and the loops over
// contiguous values. With the argument "blocks" it writes that of package gguf, the
// searches of its encoders, and with "halves" that of package weights, conversions.
// Run it through go generate in those packages.
package main

import (
	"os"

	. "github.com/mmcloughlin/avo/build"
)

func main() {
	emit := kernels
	if len(os.Args) > 1 {
		if other, ok := map[string]func(){"blocks": blocks, "halves": halves}[os.Args[1]]; ok {
			emit = other
			os.Args = append(os.Args[:1], os.Args[2:]...) // the rest is avo's
		}
	}
	emit()
	Generate()
}

// kernels emits the assembly of package kernel.
func kernels() {
	for rows := 1; rows <= 12; rows++ {
		micro("AVX512", rows, 2, zmm)
		micro("AVX512", rows, 1, zmm)
	}
	for rows := 1; rows <= 12; rows++ {
		micro("BF16", rows, 2, pairs)
		micro("BF16", rows, 1, pairs)
	}
	for rows := 1; rows <= 6; rows++ {
		micro("AVX2", rows, 2, ymm)
		micro("AVX2", rows, 1, ymm)
	}
	for _, w := range []int{8, 16, 32} {
		packRows(w, false)
		packRows(w, true)
	}
	packCols(false)
	packCols(true)
	packRowsPairs(16)
	packRowsPairs(32)
	packColsPairs()
	roundPairs()
	dequantize(8)
	dequantize(4)
	dotCodes(8)
	dotCodes(4)
	mergeRow()
	integers()
	dotRowsBF16()
	attention()
	vectors()
	peak("peakAVX512", zmm)
	peak("peakAVX2", ymm)
	peak("peakBF16", pairs)
	pause()
}
