//go:build !amd64

package kernel

// Best returns the fastest instruction set of this processor.
func Best() ISA { return Pure }

func loops(ISA) (tile, vector) { return pureTile(), pureVector() }

func pause() {}

func mergeBlocks(row, b, a []float32, scale float64) int { return 0 }
