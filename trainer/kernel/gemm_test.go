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

// engines returns one engine per instruction set that this processor has.
func engines() []*kernel.Engine {
	var list []*kernel.Engine
	for isa := kernel.Pure; isa <= kernel.Best(); isa++ {
		list = append(list, kernel.New(isa))
	}
	return list
}

func random(rng *rand.Rand, n int) []float32 {
	x := make([]float32, n)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	return x
}

// toBF16 cuts values down to bfloat16 and returns both forms.
func toBF16(x []float32) []uint16 {
	out := make([]uint16, len(x))
	for i, v := range x {
		b := math.Float32bits(v) >> 16
		out[i], x[i] = uint16(b), math.Float32frombits(b<<16)
	}
	return out
}

// operand is a matrix with the same values as plain float64, row-major.
type operand struct {
	m   kernel.Matrix
	val []float64
}

func makeOperand(rng *rand.Rand, rows, cols int, bf16, transposed bool) operand {
	r, c := rows, cols
	if transposed {
		r, c = cols, rows
	}
	data := random(rng, r*c)
	var m kernel.Matrix
	if bf16 {
		m = kernel.BF16(toBF16(data), r, c)
	} else {
		m = kernel.F32(data, r, c)
	}
	o := operand{m: m, val: make([]float64, rows*cols)}
	for i := range r {
		for j := range c {
			at := i*c + j
			if transposed {
				at = j*r + i
			}
			o.val[at] = float64(data[i*c+j])
		}
	}
	if transposed {
		o.m = m.T()
	}
	return o
}

func TestGemmEqualsTheSumOfProducts(t *testing.T) {
	list := engines()
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		m, n := rapid.IntRange(1, 70).Draw(t, "m"), rapid.IntRange(1, 90).Draw(t, "n")
		pad := rapid.IntRange(0, 3).Draw(t, "pad")
		add := rapid.Bool().Draw(t, "add")
		var terms []kernel.Term
		start := random(rng, m*(n+pad))
		want := make([]float64, m*n)
		size := 1.0
		for i := range m {
			for j := range n {
				if add {
					want[i*n+j] = float64(start[i*(n+pad)+j])
				}
			}
		}
		for range rapid.IntRange(1, 3).Draw(t, "terms") {
			k := rapid.SampledFrom([]int{1, 2, 3, 7, 16, 33, 64, 513, 1024, 1025}).Draw(t, "k")
			a := makeOperand(rng, m, k, false, rapid.Bool().Draw(t, "ta"))
			b := makeOperand(rng, k, n, rapid.Bool().Draw(t, "bf16"), rapid.Bool().Draw(t, "tb"))
			terms = append(terms, kernel.Term{A: a.m, B: b.m})
			size += float64(k)
			for i := range m {
				for kk := range k {
					for j := range n {
						want[i*n+j] += a.val[i*k+kk] * b.val[kk*n+j]
					}
				}
			}
		}
		for _, e := range list {
			got := slices.Clone(start)
			e.Gemm(kernel.Product{C: kernel.F32Stride(got, m, n, n+pad), Add: add, Terms: terms})
			for i := range m {
				for j := range n {
					if d := math.Abs(float64(got[i*(n+pad)+j]) - want[i*n+j]); !(d < 2e-6*size) {
						t.Fatalf("%v: C[%d,%d] is %g, want %g", e.ISA(), i, j, got[i*(n+pad)+j], want[i*n+j])
					}
				}
				for j := n; j < n+pad; j++ {
					if got[i*(n+pad)+j] != start[i*(n+pad)+j] {
						t.Fatalf("%v: wrote beyond row %d", e.ISA(), i)
					}
				}
			}
		}
	})
}

// The assembly's results are one chain of fused multiply-adds per element: the
// same bits for every tile, number of workers and instruction set.
func TestGemmBitsDoNotDependOnWorkersOrTiles(t *testing.T) {
	if kernel.Best() == kernel.Pure {
		t.Skip("this processor runs the pure-Go loops only")
	}
	rng := rand.New(rand.NewPCG(1, 2))
	const m, k, n = 131, 700, 203
	a, b := makeOperand(rng, m, k, false, false), makeOperand(rng, k, n, true, true)
	var first []float32
	for _, procs := range []int{1, 2, 5} {
		old := runtime.GOMAXPROCS(procs)
		for isa := kernel.AVX2; isa <= kernel.Best(); isa++ {
			c := make([]float32, m*n)
			kernel.New(isa).Gemm(kernel.Product{C: kernel.F32(c, m, n), Terms: []kernel.Term{{A: a.m, B: b.m}}})
			if first == nil {
				first = c
			}
			if !slices.Equal(first, c) {
				t.Errorf("GOMAXPROCS=%d, %v: other bits than before", procs, isa)
			}
		}
		runtime.GOMAXPROCS(old)
	}
}

func TestGemmRefusesShapesThatDoNotFit(t *testing.T) {
	e := kernel.New(kernel.Best())
	a, b, c := kernel.F32(make([]float32, 6), 2, 3), kernel.F32(make([]float32, 8), 4, 2), kernel.F32(make([]float32, 4), 2, 2)
	for name, f := range map[string]func(){
		"inner":  func() { e.Gemm(kernel.Product{C: c, Terms: []kernel.Term{{A: a, B: b}}}) },
		"short":  func() { kernel.F32(make([]float32, 5), 2, 3) },
		"result": func() { e.Gemm(kernel.Product{C: c.T()}) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}

func BenchmarkGEMM(b *testing.B) {
	for _, s := range []struct {
		name    string
		m, k, n int
		bf16    bool
		ta, tb  bool
	}{
		{"up-512x576x1536", 512, 576, 1536, true, false, true},
		{"upGrad-512x1536x576", 512, 1536, 576, true, false, false},
		{"upWeightGrad-1536x512x576", 1536, 512, 576, false, true, false},
		{"kv-512x576x192", 512, 576, 192, true, false, true},
		{"square-1024", 1024, 1024, 1024, false, false, false},
		{"demo-384x192x512", 384, 192, 512, true, false, true},
		{"demo-384x192x64", 384, 192, 64, true, false, true},
		{"lora-512x576x16", 512, 576, 16, false, false, true},
		{"loraUpGrad-512x1536x16", 512, 1536, 16, false, false, false},
		{"loraBGrad-1536x512x16", 1536, 512, 16, false, true, false},
		{"loraAGrad-16x512x576", 16, 512, 576, false, true, false},
		{"demoLora-384x192x8", 384, 192, 8, false, false, true},
		{"loraTerm-512x16x1536", 512, 16, 1536, false, false, true},
	} {
		for _, e := range engines() {
			if e.ISA() == kernel.Pure && s.m*s.k*s.n > 1<<28 {
				continue
			}
			b.Run(fmt.Sprintf("%s/%v", s.name, e.ISA()), func(b *testing.B) {
				rng := rand.New(rand.NewPCG(1, 1))
				x, w := makeOperand(rng, s.m, s.k, false, s.ta), makeOperand(rng, s.k, s.n, s.bf16, s.tb)
				c := kernel.F32(make([]float32, s.m*s.n), s.m, s.n)
				for b.Loop() {
					e.Gemm(kernel.Product{C: c, Terms: []kernel.Term{{A: x.m, B: w.m}}})
				}
				b.ReportMetric(2*float64(s.m*s.k*s.n)*float64(b.N)/b.Elapsed().Seconds()/1e9, "GFLOP/s")
			})
		}
	}
}
