package kernel_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

// A text does not depend on the processor's instructions: integers are exact, and what
// follows has one order.
func TestIntegersGiveTheSameBitsByEveryInstruction(t *testing.T) {
	list := kernel.IntegerEngines()
	if len(list) < 2 {
		t.Skip("this processor has one way to multiply codes")
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for _, k := range []int{1, 31, 32, 100, 576} {
		for _, n := range []int{1, 3, 4, 7, 130} {
			q, x := integerMatrix(rng, n, k), random(rng, 2*k)
			var want []float32
			for _, e := range list {
				got := make([]float32, 2*n)
				e.Gemm(kernel.Product{C: kernel.F32(got, 2, n), Terms: []kernel.Term{{A: kernel.F32(x, 2, k), B: q.Matrix().T()}}})
				if want == nil {
					want = got
				} else if !slices.Equal(got, want) {
					t.Fatalf("%d x %d: %v and %v", k, n, got, want)
				}
			}
		}
	}
}
