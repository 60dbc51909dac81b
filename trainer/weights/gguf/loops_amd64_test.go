package gguf_test

import (
	"bytes"
	"math"
	"math/rand/v2"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// rows are values of every kind that a search could take another way for: rows of 1, 2
// and 3 blocks of 256, so that groups are searched in sixteens, in eights and in both.
func rows(rng *rand.Rand, each func(name string, x []float32)) {
	fill := map[string]func(i int) float32{
		"normal":          func(int) float32 { return float32(rng.NormFloat64()) },
		"weights":         func(int) float32 { return float32(rng.NormFloat64()) * 0.02 },
		"bfloat16":        func(int) float32 { return math.Float32frombits(math.Float32bits(float32(rng.NormFloat64())) &^ 0xffff) },
		"uniform":         func(int) float32 { return 2*rng.Float32() - 1 },
		"positive":        func(int) float32 { return 3 + rng.Float32() },
		"negative":        func(int) float32 { return -3 - rng.Float32() },
		"far from 0":      func(int) float32 { return -50000 - rng.Float32()/16 },
		"zeros":           func(int) float32 { return 0 },
		"zeros of a sign": func(int) float32 { return float32(math.Copysign(0, float64(rng.IntN(2))-0.5)) },
		"one value":       func(i int) float32 { return float32(i / 96) },
		"one of many":     func(i int) float32 { return float32(max(0, 1-i%37)) * float32(rng.NormFloat64()) },
		"two values":      func(int) float32 { return float32(rng.IntN(2)) },
		"a grid":          func(int) float32 { return float32(rng.IntN(16)-4) * 0.25 },
		"ties":            func(int) float32 { return float32(rng.IntN(64)-32) * 0.5 },
		"outliers":        func(int) float32 { return float32(math.Pow(rng.NormFloat64(), 9)) },
		"tiny":            func(int) float32 { return float32(rng.NormFloat64()) * 1e-15 },
		"subnormal":       func(int) float32 { return math.Float32frombits(rng.Uint32() & 0x807fffff) },
		"barely":          func(int) float32 { return math.Float32frombits(rng.Uint32() & 0x80000003) },
		"huge":            func(int) float32 { return (2*rng.Float32() - 1) * 982560 },
		"any scale":       func(int) float32 { return float32(rng.NormFloat64() * math.Pow(2, float64(rng.IntN(160)-145))) },
		"groups": func(i int) float32 { // each of its own scale, some of them empty
			return float32(rng.NormFloat64() * math.Pow(10, float64(i/32%9-4)) * float64(min(1, i/32%3)))
		},
	}
	for name, f := range fill {
		for blocks := 1; blocks <= 3; blocks++ {
			x := make([]float32, 256*blocks)
			for i := range x {
				x[i] = f(i)
			}
			each(name, x)
		}
	}
}

// A file does not depend on the processor that wrote it: the loops in assembly give
// the bytes of those in Go.
func TestEveryProcessorWritesTheSameBytes(t *testing.T) {
	encoders := gguf.Encoders()
	if len(encoders) < 2 {
		t.Skip("this processor has no AVX2: there is one set of loops")
	}
	rng := rand.New(rand.NewPCG(7, 8))
	for range 30 {
		rows(rng, func(name string, x []float32) {
			for _, kind := range []gguf.Type{gguf.F16, gguf.BF16, gguf.Q5_0, gguf.Q8_0, gguf.Q4_K, gguf.Q6_K} {
				shape, ok := block[kind]
				if !ok {
					shape = [2]int{1, 2}
				}
				out := map[string][]byte{}
				failed := map[string]bool{}
				for set, encode := range encoders {
					out[set] = make([]byte, len(x)/shape[0]*shape[1])
					failed[set] = encode(out[set], kind, x) != nil
				}
				for set := range encoders {
					if failed[set] != failed["pure"] {
						t.Fatalf("%s of %s: refused by %s: %v, in Go: %v", kind, name, set, failed[set], failed["pure"])
					}
					if !failed[set] && !bytes.Equal(out[set], out["pure"]) {
						at := 0
						for out[set][at] == out["pure"][at] {
							at++
						}
						t.Fatalf("%s of %s, %d values: %s writes another byte %d than Go", kind, name, len(x), set, at)
					}
				}
			}
		})
	}
}

// What cannot be quantized is seen wherever it stands.
func TestEveryProcessorRefusesTheSameValues(t *testing.T) {
	for set, encode := range gguf.Encoders() {
		for _, kind := range []gguf.Type{gguf.Q8_0, gguf.Q4_K, gguf.Q6_K} {
			out := make([]byte, 256/block[kind][0]*block[kind][1])
			for at := range 256 {
				x := make([]float32, 256)
				x[at] = float32(math.NaN())
				if encode(out, kind, x) == nil {
					t.Errorf("%s, %s: NaN at %d is accepted", set, kind, at)
				}
				x[at] = -3e38
				if encode(out, kind, x) == nil {
					t.Errorf("%s, %s: -3e38 at %d is accepted", set, kind, at)
				}
			}
		}
		x := make([]float32, 96)
		x[77] = 65520
		if encode(make([]byte, 192), gguf.F16, x) == nil {
			t.Errorf("%s: 65520 is accepted as F16", set)
		}
		x[77] = float32(math.Inf(1))
		if err := encode(make([]byte, 192), gguf.F16, x); err != nil {
			t.Errorf("%s: an infinity is not kept in F16: %v", set, err)
		}
	}
}

// BenchmarkEncoders is BenchmarkQuantize for each set of loops.
func BenchmarkEncoders(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, 256*64)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	for _, kind := range []gguf.Type{gguf.Q8_0, gguf.Q4_K, gguf.Q6_K} {
		for set, encode := range gguf.Encoders() {
			b.Run(kind.String()+"/"+set, func(b *testing.B) {
				out := make([]byte, len(x)/block[kind][0]*block[kind][1])
				b.SetBytes(int64(4 * len(x)))
				for b.Loop() {
					if err := encode(out, kind, x); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}
