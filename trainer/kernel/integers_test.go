package kernel_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

// integerMatrix is a random matrix whose products of few rows round both operands.
func integerMatrix(rng *rand.Rand, rows, cols int) *kernel.Quantized {
	q := kernel.NewQuantized(8, rows, cols)
	q.SetIntegers()
	for r := range rows {
		q.SetRow(r, random(rng, cols))
	}
	return q
}

// One to four rows: both operands stand rounded to blocks of codes, here computed in
// float64 from what the codes stand for; other terms of the same product do not.
func TestIntegersMultiplyWhatBothOperandsRoundTo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		k, n := rapid.IntRange(1, 700).Draw(t, "k"), rapid.IntRange(1, 150).Draw(t, "n")
		m, add := rapid.IntRange(1, 4).Draw(t, "m"), rapid.Bool().Draw(t, "add")
		q, x, before := integerMatrix(rng, n, k), random(rng, m*k), random(rng, m*n)
		low, up := random(rng, m*3), random(rng, n*3) // as an adapter's
		rounded := kernel.NewQuantized(8, m, k)
		rounded.SetIntegers()
		for i := range m {
			rounded.SetRow(i, x[i*k:(i+1)*k])
		}
		xs, ws := decoded(rounded, m, k), decoded(q, n, k)
		for _, e := range engines() {
			got := slices.Clone(before)
			e.Gemm(kernel.Product{C: kernel.F32(got, m, n), Add: add, Terms: []kernel.Term{
				{A: kernel.F32(x, m, k), B: q.Matrix().T()}, {A: kernel.F32(low, m, 3), B: kernel.F32(up, n, 3).T()}}})
			for i := range got {
				var want, size float64
				if add {
					want = float64(before[i])
				}
				term := func(a, b []float32) {
					for j := range a {
						want += float64(a[j]) * float64(b[j])
						size += math.Abs(float64(a[j]) * float64(b[j]))
					}
				}
				r, c := i/n, i%n
				term(xs[r*k:(r+1)*k], ws[c*k:(c+1)*k])
				term(low[r*3:(r+1)*3], up[c*3:(c+1)*3])
				if d := math.Abs(float64(got[i]) - want); !(d <= 1e-5*(size+1)) {
					t.Fatalf("%v: value %d of %d x %d x %d is %g, want %g", e.ISA(), i, m, k, n, got[i], want)
				}
			}
		}
	})
}

// Many rows, a prompt's, decode the codes and round nothing.
func TestManyRowsTimesIntegersAreNotRounded(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	const m, k, n = 5, 100, 70
	q, x := integerMatrix(rng, n, k), kernel.F32(random(rng, m*k), m, k)
	for _, e := range engines() {
		got, want := make([]float32, m*n), make([]float32, m*n)
		e.Gemm(kernel.Product{C: kernel.F32(got, m, n), Terms: []kernel.Term{{A: x, B: q.Matrix().T()}}})
		e.Gemm(kernel.Product{C: kernel.F32(want, m, n), Terms: []kernel.Term{{A: x, B: kernel.F32(decoded(q, n, k), n, k).T()}}})
		if !slices.Equal(got, want) {
			t.Errorf("%v: the product is not that of the decoded values", e.ISA())
		}
	}
}

// Neither a damaged weight nor a damaged activation comes out as a sound number.
func TestIntegersLetNaNAndInfBeSeen(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
		for _, e := range engines() {
			x, w := random(rng, 64), random(rng, 64)
			for _, damaged := range [][]float32{x, w} {
				kept := damaged[40]
				damaged[40] = bad
				q, c := kernel.NewQuantized(8, 1, 64), []float32{0}
				q.SetIntegers()
				q.SetRow(0, w)
				e.Gemm(kernel.Product{C: kernel.F32(c, 1, 1), Terms: []kernel.Term{{A: kernel.F32(x, 1, 64), B: q.Matrix().T()}}})
				if v := float64(c[0]); !math.IsNaN(v) && !math.IsInf(v, 0) {
					t.Errorf("%v: with %g the product is %g", e.ISA(), bad, c[0])
				}
				damaged[40] = kept
			}
		}
	}
}

// Matrices in a slab are apart from each other, larger ones than a chunk too, and
// compute what others compute.
func TestMatricesInASlabAreOnesLikeOthers(t *testing.T) {
	rng := rand.New(rand.NewPCG(5, 1))
	var slab kernel.Slab
	shapes := [][2]int{{3, 70}, {1, 1}, {0, 5}, {40_000, 900}, {7, 33}, {2, 64}}
	var inSlab []*kernel.Quantized
	var rows [][]float32
	for _, s := range shapes {
		q := slab.Quantized(8, s[0], s[1])
		q.SetIntegers()
		row := random(rng, s[1])
		for r := range s[0] {
			if r < 9 || r > s[0]-9 {
				q.SetRow(r, row)
			}
		}
		inSlab, rows = append(inSlab, q), append(rows, row)
	}
	for i, s := range shapes {
		if s[0] == 0 {
			continue
		}
		alone := kernel.NewQuantized(8, 1, s[1])
		alone.SetIntegers()
		alone.SetRow(0, rows[i])
		for _, r := range []int{0, s[0] - 1} {
			got := make([]float32, s[1])
			inSlab[i].Row(got, r)
			if !slices.Equal(got, decoded(alone, 1, s[1])) {
				t.Errorf("row %d of matrix %d has other values than alone", r, i)
			}
		}
	}
}
