package kernel_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

// Every value is W + s·Σ b·a with the sum in float64, in order, rounded once: to the
// bit, also at a row's ragged end.
func TestMergeRowRoundsOnce(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 9))
	for _, rank := range []int{1, 3, 16} {
		for _, width := range []int{1, 15, 16, 17, 64, 100} {
			row, b, a := make([]float32, width), make([]float32, rank), make([]float32, rank*width)
			for _, s := range [][]float32{row, b, a} {
				for i := range s {
					s[i] = float32(rng.NormFloat64())
				}
			}
			const scale = 1.7
			got := append([]float32(nil), row...)
			kernel.MergeRow(got, b, a, scale)
			for i, w := range row {
				sum := float64(0)
				for k := range rank {
					sum += float64(b[k]) * float64(a[k*width+i])
				}
				scaled := scale * sum
				if want := float32(float64(w) + scaled); math.Float32bits(got[i]) != math.Float32bits(want) {
					t.Fatalf("rank %d, value %d of %d: %g, want %g", rank, i, width, got[i], want)
				}
			}
		}
	}
}
