package kernel_test

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

// quantized returns a random matrix of codes and the values that they stand for.
func quantized(rng *rand.Rand, bits, rows, cols int) (*kernel.Quantized, []float32) {
	q := kernel.NewQuantized(bits, rows, cols)
	for r := range rows {
		q.SetRow(r, random(rng, cols))
	}
	return q, decoded(q, rows, cols)
}

func decoded(q *kernel.Quantized, rows, cols int) []float32 {
	values := make([]float32, rows*cols)
	for r := range rows {
		q.Row(values[r*cols:(r+1)*cols], r)
	}
	return values
}

// A product with codes is, bit for bit, the product with the values they stand
// for: forward, where rows of the matrix become columns, and backward.
func TestGemmWithCodesEqualsGemmWithTheirValues(t *testing.T) {
	list := engines()
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		bits := rapid.SampledFrom([]int{4, 8}).Draw(t, "bits")
		m := rapid.SampledFrom([]int{1, 3, 5, 12, 40}).Draw(t, "m")
		rows := rapid.SampledFrom([]int{1, 8, 16, 31, 32, 70, 520}).Draw(t, "rows")
		cols := rapid.SampledFrom([]int{1, 5, 32, 33, 64, 100, 530}).Draw(t, "cols")
		q, values := quantized(rng, bits, rows, cols)
		k, n, codes, plain := rows, cols, q.Matrix(), kernel.F32(values, rows, cols)
		if rapid.Bool().Draw(t, "transposed") {
			k, n, codes, plain = cols, rows, codes.T(), plain.T()
		}
		a := kernel.F32(random(rng, m*k), m, k)
		for _, e := range list {
			got, want := make([]float32, m*n), make([]float32, m*n)
			e.Gemm(kernel.Product{C: kernel.F32(got, m, n), Terms: []kernel.Term{{A: a, B: codes}}})
			// Few rows are dot products over plain values, with another order of sums.
			e.Gemm(kernel.Product{C: kernel.F32(want, m, n), Terms: []kernel.Term{{A: a, B: plain}}})
			for i := range want {
				if d := math.Abs(float64(got[i] - want[i])); m > 4 && d != 0 || !(d <= 2e-6*float64(k+1)) {
					t.Fatalf("%v: value %d is %g, want %g", e.ISA(), i, got[i], want[i])
				}
			}
		}
	})
}

// One row, as generation has it: added to what is there, over two terms, the
// assembly gives what the loops in Go give.
func TestOneRowTimesCodesAsThePureLoopsHaveIt(t *testing.T) {
	pure := kernel.New(kernel.Pure)
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		k, n := rapid.IntRange(1, 700).Draw(t, "k"), rapid.IntRange(1, 150).Draw(t, "n")
		m := rapid.IntRange(1, 4).Draw(t, "m")
		q8, values := quantized(rng, 8, n, k)
		q4, more := quantized(rng, 4, n, k)
		x, before := kernel.F32(random(rng, m*k), m, k), random(rng, m*n)
		add := rapid.Bool().Draw(t, "add")
		compute := func(e *kernel.Engine, b8, b4 kernel.Matrix) []float32 {
			c := slices.Clone(before)
			e.Gemm(kernel.Product{C: kernel.F32(c, m, n), Add: add, Terms: []kernel.Term{{A: x, B: b8.T()}, {A: x, B: b4.T()}}})
			return c
		}
		want := compute(pure, kernel.F32(values, n, k), kernel.F32(more, n, k))
		for _, e := range engines() {
			for i, v := range compute(e, q8.Matrix(), q4.Matrix()) {
				if d := math.Abs(float64(v - want[i])); !(d <= 4e-6*float64(k+1)) {
					t.Fatalf("%v: value %d is %g, want %g", e.ISA(), i, v, want[i])
				}
			}
		}
	})
}

// The error of a code is at most half a step of its block, and zeros stay zeros.
func TestCodesAreNearTheValues(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		cols := rapid.IntRange(1, 100).Draw(t, "cols")
		values := random(rng, cols)
		values[rng.IntN(cols)] = 0
		for bits, steps := range map[int]float64{8: 127, 4: 7} {
			q := kernel.NewQuantized(bits, 1, cols)
			q.SetRow(0, values)
			got := decoded(q, 1, cols)
			for b := 0; b < cols; b += kernel.QuantBlock {
				var top float64
				for _, v := range values[b:min(cols, b+kernel.QuantBlock)] {
					top = max(top, math.Abs(float64(v)))
				}
				for i := b; i < min(cols, b+kernel.QuantBlock); i++ {
					d := math.Abs(float64(got[i] - values[i]))
					// The 4-bit scale may cut the largest value, but by less than a step.
					if limit := top / steps * map[int]float64{8: 0.5001, 4: 1.01}[bits]; d > limit {
						t.Fatalf("%d bits: %g became %g, off by %g of at most %g", bits, values[i], got[i], d, limit)
					}
					if values[i] == 0 && got[i] != 0 {
						t.Fatalf("%d bits: zero became %g", bits, got[i])
					}
				}
			}
		}
	})
}

// A damaged weight must not come out as a number that looks sound.
func TestNaNAndInfStaySeen(t *testing.T) {
	for _, bits := range []int{4, 8} {
		for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1))} {
			values := []float32{1, bad, 2}
			q := kernel.NewQuantized(bits, 1, 3)
			q.SetRow(0, values)
			if got := decoded(q, 1, 3); !slices.ContainsFunc(got, func(v float32) bool { return math.IsNaN(float64(v)) }) {
				t.Errorf("%d bits: %v became %v", bits, values, got)
			}
		}
	}
}

// A row and columns of zeros take no part.
func TestAMatrixOfZerosAndItsSize(t *testing.T) {
	for bits, bytes := range map[int]int{8: 9 * 64 * 4 / 8, 4: 5 * 64 * 4 / 8} {
		q := kernel.NewQuantized(bits, 4, 64)
		q.SetRow(1, make([]float32, 64))
		if got := decoded(q, 4, 64); slices.ContainsFunc(got, func(v float32) bool { return v != 0 }) {
			t.Errorf("%d bits: %v", bits, got)
		}
		if q.Bytes() != bytes || q.Len() != 256 {
			t.Errorf("%d bits: %d bytes for %d values, want %d", bits, q.Bytes(), q.Len(), bytes)
		}
	}
}

// BenchmarkOneRow is a product of generation: memory is what bounds it.
func BenchmarkOneRow(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	const k, n = 576, 1536
	x, c := kernel.F32(random(rng, k), 1, k), kernel.F32(make([]float32, n), 1, n)
	q8, _ := quantized(rng, 8, n, k)
	q4, _ := quantized(rng, 4, n, k)
	integers := integerMatrix(rng, n, k)
	for name, w := range map[string]kernel.Matrix{"bf16": kernel.BF16(make([]uint16, n*k), n, k), "8-bit": q8.Matrix(), "4-bit": q4.Matrix(), "integers": integers.Matrix()} {
		b.Run(name, func(b *testing.B) {
			e := kernel.New(kernel.Best())
			for b.Loop() {
				e.Gemm(kernel.Product{C: c, Terms: []kernel.Term{{A: x, B: w.T()}}})
			}
			b.ReportMetric(2*float64(k*n)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
		})
	}
}

func BenchmarkGEMMWithCodes(b *testing.B) {
	for _, bits := range []int{8, 4} {
		for _, forward := range []bool{true, false} {
			b.Run(fmt.Sprintf("%d-bit/forward=%v", bits, forward), func(b *testing.B) {
				rng := rand.New(rand.NewPCG(1, 1))
				const m, in, out = 512, 576, 1536
				q, _ := quantized(rng, bits, out, in)
				k, n, w := out, in, q.Matrix()
				if forward {
					k, n, w = in, out, w.T()
				}
				x, c := kernel.F32(random(rng, m*k), m, k), kernel.F32(make([]float32, m*n), m, n)
				e := kernel.New(kernel.Best())
				for b.Loop() {
					e.Gemm(kernel.Product{C: c, Terms: []kernel.Term{{A: x, B: w}}})
				}
				b.ReportMetric(2*float64(m*k*n)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}
