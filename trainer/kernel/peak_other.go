//go:build !amd64

package kernel

// Peak is 0: there are no loops in assembly to be read against it.
func Peak(ISA, int) (operations float64) { return 0 }
