package kernel_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

func roundAll(x []float32) []float32 {
	out := make([]float32, len(x))
	for i, v := range x {
		out[i] = kernel.RoundBF16(v)
	}
	return out
}

func TestRoundBF16IsTheNearestWithTiesToEven(t *testing.T) {
	for in, want := range map[float32]float32{
		1: 1, 1 + 1.0/256: 1, 1 + 3.0/256: 1 + 2.0/128, 1 + 1.1/256: 1 + 1.0/128, -1 - 3.0/256: -1 - 2.0/128,
		1e-40: 0, 1.17549e-38: 1.1754944e-38 * 0, 0: 0,
		float32(math.Inf(1)): float32(math.Inf(1)), 3.4e38: float32(math.Inf(1)),
	} {
		if got := kernel.RoundBF16(in); got != want {
			t.Errorf("%g becomes %g, want %g", in, got, want)
		}
	}
	if v := kernel.RoundBF16(float32(math.NaN())); v == v {
		t.Errorf("NaN becomes %g", v)
	}
}

// dots is the definition of a product with a rounded term, as plainly as it can
// be written: one chain per element, in the order of k.
func dots(c []float32, m, n int, a []float32, k int, at func(kk, j int) float32) {
	for i := range m {
		for j := range n {
			sum := c[i*n+j]
			for kk := range k {
				// The product is exact, so that it makes no difference whether it is fused.
				sum += kernel.RoundBF16(a[i*k+kk]) * at(kk, j)
			}
			c[i*n+j] = sum
		}
	}
}

// All loops give the bits of the definition: the pairs of AVX512_BF16 as well as
// the float32 loops that stand in for them.
func TestRoundedTermsHaveTheSameBitsEverywhere(t *testing.T) {
	list := engines()
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		m, n := rapid.IntRange(1, 40).Draw(t, "m"), rapid.IntRange(1, 90).Draw(t, "n")
		k := rapid.SampledFrom([]int{1, 2, 3, 15, 16, 17, 31, 33, 64, 100, 512, 513, 577, 1025}).Draw(t, "k")
		turned := rapid.Bool().Draw(t, "turned")
		start := random(rng, m*n)
		a := random(rng, m*k)
		for range rapid.IntRange(0, 3).Draw(t, "odd ones") {
			a[rng.IntN(len(a))] = []float32{0, 1e-40, -1e-40, 1e30, 65280}[rng.IntN(5)]
		}
		b := random(rng, k*n)
		bits := toBF16(b)
		w, at := kernel.BF16(bits, k, n), func(kk, j int) float32 { return b[kk*n+j] }
		if turned {
			w, at = kernel.BF16(bits, n, k).T(), func(kk, j int) float32 { return b[j*k+kk] }
		}
		want := slices.Clone(start)
		dots(want, m, n, a, k, at)
		for _, e := range list {
			got := slices.Clone(start)
			e.Gemm(kernel.Product{C: kernel.F32(got, m, n), Add: true, Terms: []kernel.Term{{A: kernel.F32(a, m, k), B: w, Round: true}}})
			if i := differ(got, want); i >= 0 {
				t.Fatalf("%v: C[%d,%d] is %g, want %g", e.ISA(), i/n, i%n, got[i], want[i])
			}
		}
	})
}

func differ(got, want []float32) int {
	for i := range got {
		if got[i] != want[i] && (got[i] == got[i] || want[i] == want[i]) {
			return i
		}
	}
	return -1
}

// A rounded term is the float32 product of rounded values, next to other terms and
// in any number of workers.
func TestARoundedTermStandsBesideOthers(t *testing.T) {
	if kernel.Best() == kernel.Pure {
		t.Skip("this processor runs the pure-Go loops only")
	}
	rng := rand.New(rand.NewPCG(3, 4))
	const m, k, n, rank = 131, 1100, 203, 16
	a, u, lb := random(rng, m*k), random(rng, m*rank), random(rng, n*rank)
	bits := toBF16(random(rng, n*k))
	product := func(x []float32, c []float32, round bool) kernel.Product {
		return kernel.Product{C: kernel.F32(c, m, n), Terms: []kernel.Term{
			{A: kernel.F32(x, m, k), B: kernel.BF16(bits, n, k).T(), Round: round},
			{A: kernel.F32(u, m, rank), B: kernel.F32(lb, n, rank).T()}}}
	}
	want := make([]float32, m*n)
	kernel.New(kernel.AVX2).Gemm(product(roundAll(a), want, false))
	for _, procs := range []int{1, 2, 5} {
		old := runtime.GOMAXPROCS(procs)
		for isa := kernel.AVX2; isa <= kernel.Best(); isa++ {
			// Twice with one input: it is rounded once.
			c, d := make([]float32, m*n), make([]float32, m*n)
			kernel.New(isa).Gemm(product(a, c, true), product(a, d, true))
			if differ(c, want) >= 0 || differ(d, want) >= 0 {
				t.Errorf("GOMAXPROCS=%d, %v: other bits than the rounded values give", procs, isa)
			}
		}
		runtime.GOMAXPROCS(old)
	}
	if a[0] == kernel.RoundBF16(a[0]) {
		t.Error("the input itself was rounded")
	}
}

func TestARoundedTermIsRefusedWhereItCannotBe(t *testing.T) {
	e := kernel.New(kernel.Best())
	f, c := kernel.F32(make([]float32, 4), 2, 2), kernel.F32(make([]float32, 4), 2, 2)
	b := kernel.BF16(make([]uint16, 4), 2, 2)
	for name, term := range map[string]kernel.Term{
		"float32 weights": {A: f, B: f, Round: true},
		"transposed":      {A: f.T(), B: b, Round: true},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			e.Gemm(kernel.Product{C: c, Terms: []kernel.Term{term}})
		}()
	}
}

// FuzzRound compares the processor's rounding with the definition, through a
// product with ones.
func FuzzRound(f *testing.F) {
	for _, b := range []uint32{0, 0x3f808000, 0x3f818000, 0x3f808001, 0x7f7fffff, 0x7f800000, 0x00800000, 0x007fffff, 0x80000001} {
		f.Add(b)
	}
	e := kernel.New(kernel.Best())
	f.Fuzz(func(t *testing.T, bits uint32) {
		const k = 64
		v, want := math.Float32frombits(bits), kernel.RoundBF16(math.Float32frombits(bits))
		a, c, one := make([]float32, k*k), make([]float32, k*k), make([]uint16, k*k)
		for i := range k {
			a[i*k+i], one[i*k+i] = v, 0x3f80
		}
		e.Gemm(kernel.Product{C: kernel.F32(c, k, k), Terms: []kernel.Term{{A: kernel.F32(a, k, k), B: kernel.BF16(one, k, k), Round: true}}})
		for i := range k {
			got := c[i*k+i]
			if got != want && (got == got || want == want) {
				t.Fatalf("%08x becomes %g, want %g", bits, got, want)
			}
		}
	})
}

func BenchmarkGEMMRounded(b *testing.B) {
	for _, s := range []struct {
		name    string
		m, k, n int
		turned  bool
	}{
		{"up-512x576x1536", 512, 576, 1536, true},
		{"upGrad-512x1536x576", 512, 1536, 576, false},
		{"kv-512x576x192", 512, 576, 192, true},
		{"head-240x576x49152", 240, 576, 49152, true},
		{"headGrad-240x49152x576", 240, 49152, 576, false},
		{"demo-384x192x512", 384, 192, 512, true},
	} {
		for _, round := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/round=%v", s.name, round), func(b *testing.B) {
				rng := rand.New(rand.NewPCG(1, 1))
				x, w := makeOperand(rng, s.m, s.k, false, false), makeOperand(rng, s.k, s.n, true, s.turned)
				c, e := kernel.F32(make([]float32, s.m*s.n), s.m, s.n), kernel.New(kernel.Best())
				for b.Loop() {
					e.Gemm(kernel.Product{C: c, Terms: []kernel.Term{{A: x.m, B: w.m, Round: round}}})
				}
				b.ReportMetric(2*float64(s.m*s.k*s.n)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}
