package kernel

// mergeBlocks is MergeRow for whole blocks of 16 values; it gives how many values are
// done.
func mergeBlocks(row, b, a []float32, scale float64) int {
	blocks := len(row) / 16
	if blocks == 0 || len(b) == 0 || Best() < AVX2 {
		return 0
	}
	mergeRowAVX2(&row[0], &b[0], &a[0], len(b), len(row), blocks, scale)
	return 16 * blocks
}
