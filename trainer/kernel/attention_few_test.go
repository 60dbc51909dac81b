package kernel_test

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

// The last queries of a sequence, alone before a cache of its keys and values, get what
// they get in the whole sequence: a few, which are read straight from the cache, and
// more.
func TestQueriesAfterACacheAreThoseOfTheWholeSequence(t *testing.T) {
	rng := rand.New(rand.NewPCG(8, 1))
	for _, hd := range []kernel.Heads{{Q: 4, KV: 2, Dim: 10}, {Q: 6, KV: 2, Dim: 64}, {Q: 2, KV: 2, Dim: 32, Window: 9, Scale: 0.3}, {Q: 2, KV: 1, Dim: 96, Window: 1}} {
		const n = 75
		width := hd.Q * hd.Dim
		q, k, v := random(rng, n*width), random(rng, n*hd.KV*hd.Dim), random(rng, n*hd.KV*hd.Dim)
		for _, e := range engines() {
			whole, wholeLSE := make([]float32, n*width), make([]float32, n*hd.Q)
			e.Attention(whole, wholeLSE, q, k, v, []kernel.Span{{Rows: n}}, hd)
			for _, rows := range []int{1, 3, 4, 5, 20} {
				o, lse := make([]float32, rows*width), make([]float32, rows*hd.Q)
				e.Attention(o, lse, q[(n-rows)*width:], k, v, []kernel.Span{{Rows: rows, Past: n - rows}}, hd)
				for name, pair := range map[string][2][]float32{"o": {o, whole[(n-rows)*width:]}, "lse": {lse, wholeLSE[(n-rows)*hd.Q:]}} {
					for i, got := range pair[0] {
						if d := math.Abs(float64(got - pair[1][i])); !(d < 2e-5) {
							t.Fatalf("%v, %+v, %d rows: %s[%d] is %g, in the whole sequence %g", e.ISA(), hd, rows, name, i, got, pair[1][i])
						}
					}
				}
			}
		}
	}
}
