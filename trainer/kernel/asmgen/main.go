// Command asmgen writes the amd64 assembly of package kernel: the micro-kernels
// of the matrix product, the packing of its right operand, and the loops over
// contiguous values. Run it through go generate in trainer/kernel.
package main

import . "github.com/mmcloughlin/avo/build"

func main() {
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
	vectors()
	peak("peakAVX512", zmm)
	peak("peakAVX2", ymm)
	peak("peakBF16", pairs)
	pause()
	Generate()
}
