package kernel

import "fmt"

// MergeRow adds scale·b·A to a row of weights: row is [width], b [rank], and A [rank,
// width]. Sums are float64, in the order of the rank, and rounded to float32 once, at
// the end, on every processor alike.
func MergeRow(row, b, a []float32, scale float64) {
	if len(a) != len(b)*len(row) {
		panic(fmt.Sprintf("kernel: %d values are not %d rows of %d", len(a), len(b), len(row)))
	}
	done := mergeBlocks(row, b, a, scale)
	for i := done; i < len(row); i++ {
		sum := float64(0)
		for k, factor := range b {
			sum += float64(factor) * float64(a[k*len(row)+i])
		}
		row[i] = float32(float64(row[i]) + float64(scale*sum)) // the conversion forbids to fuse
	}
}
