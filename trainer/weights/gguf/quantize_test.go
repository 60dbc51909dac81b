package gguf_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// block is a format's block: values and bytes.
var block = map[gguf.Type][2]int{gguf.Q5_0: {32, 22}, gguf.Q8_0: {32, 34}, gguf.Q4_K: {256, 144}, gguf.Q6_K: {256, 210}}

func quantize(t testing.TB, kind gguf.Type, x []float32) []byte {
	t.Helper()
	out := make([]byte, len(x)/block[kind][0]*block[kind][1])
	if err := gguf.Quantize(out, kind, x); err != nil {
		t.Fatal(err)
	}
	return out
}

func dequantize(t testing.TB, kind gguf.Type, data []byte) []float32 {
	t.Helper()
	out := make([]float32, len(data)/block[kind][1]*block[kind][0])
	if err := gguf.Dequantize(out, kind, data); err != nil {
		t.Fatal(err)
	}
	return out
}

// The bytes are those of ggml's own quantizers, recorded by testdata/quantized_blocks.py.
// Where a part's scale is 0 the integers that it multiplies do not matter, and are
// compared by what they decode to.
func TestQuantizesAsGGML(t *testing.T) {
	raw, err := os.ReadFile("testdata/quantized_blocks.json")
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]json.RawMessage
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	var cases []string
	if err := json.Unmarshal(file["cases"], &cases); err != nil || len(cases) < 15 {
		t.Fatalf("%d cases: %v", len(cases), err)
	}
	bytesOf := func(key string) []byte {
		var text string
		if err := json.Unmarshal(file[key], &text); err != nil {
			t.Fatalf("%s: %v", key, err)
		}
		b, err := hex.DecodeString(text)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	data := bytesOf("values")
	x := make([]float32, len(data)/4)
	for i := range x {
		x[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
	}
	for kind, shape := range block {
		want := bytesOf(kind.String())
		for i, name := range cases {
			n := 256 / shape[0] * shape[1]
			got, want := quantize(t, kind, x[256*i:256*(i+1)]), want[n*i:n*(i+1)]
			if bytes.Equal(got, want) {
				continue
			}
			a, b := dequantize(t, kind, got), dequantize(t, kind, want)
			for j := range a {
				if a[j] != b[j] {
					t.Errorf("%s, %s: value %d (%g) is %g, ggml has %g", kind, name, j, x[256*i+j], a[j], b[j])
					break
				}
			}
		}
	}
}

// The error is what the bits allow: no value is off by more than a step of its block
// could be, and more bits make a smaller error. (Of values below about 0.01 the
// scales themselves lose bits, which are half-precision numbers near their end.)
func TestTheErrorIsBounded(t *testing.T) {
	share := map[gguf.Type]float64{gguf.Q8_0: 0.6 / 127, gguf.Q6_K: 1.2 / 32, gguf.Q5_0: 1.1 / 16, gguf.Q4_K: 2.3 / 15}
	rapid.Check(t, func(rt *rapid.T) {
		scale := float32(math.Pow(10, rapid.Float64Range(-1, 3).Draw(rt, "log scale")))
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(rt, "seed"), 1))
		x := make([]float32, 512)
		for i := range x {
			x[i] = scale * float32(rng.NormFloat64())
		}
		rms := map[gguf.Type]float64{}
		for kind := range block {
			got := dequantize(t, kind, quantize(t, kind, x))
			top := 0.0
			for _, v := range x {
				top = max(top, math.Abs(float64(v)))
			}
			for i := range x {
				d := math.Abs(float64(got[i]) - float64(x[i]))
				if d > share[kind]*top {
					rt.Fatalf("%s: %g becomes %g among values up to %g", kind, x[i], got[i], top)
				}
				rms[kind] += d * d
			}
		}
		if !(rms[gguf.Q8_0] < rms[gguf.Q6_K] && rms[gguf.Q6_K] < rms[gguf.Q5_0] && rms[gguf.Q5_0] < rms[gguf.Q4_K]) {
			rt.Fatalf("squared errors %v", rms)
		}
	})
}

// What is on the grid of a block stays as it is: quantizing twice changes nothing.
func TestQuantizingAgainChangesLittle(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, 2048)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	for kind := range block {
		once := dequantize(t, kind, quantize(t, kind, x))
		twice := dequantize(t, kind, quantize(t, kind, once))
		var first, second float64
		for i := range x {
			first += math.Pow(float64(once[i]-x[i]), 2)
			second += math.Pow(float64(twice[i]-once[i]), 2)
		}
		if second > first/4 {
			t.Errorf("%s: the second rounding costs %.3g, the first %.3g", kind, second, first)
		}
	}
}

func TestWhatAFormatCannotHoldIsRefused(t *testing.T) {
	for kind := range block {
		for _, bad := range []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 3e38} {
			x := make([]float32, 256)
			x[3] = bad
			out := make([]byte, 256/block[kind][0]*block[kind][1])
			if err := gguf.Quantize(out, kind, x); err == nil || !strings.Contains(err.Error(), "cannot be quantized") {
				t.Errorf("%s, %g: %v", kind, bad, err)
			}
		}
		if err := gguf.Quantize(make([]byte, 5), kind, make([]float32, 256)); err == nil {
			t.Errorf("%s: a wrong length is accepted", kind)
		}
	}
	if err := gguf.Quantize(make([]byte, 176), gguf.Q5_K, make([]float32, 256)); err == nil {
		t.Error("Q5_K is written")
	}
}

func FuzzQuantize(f *testing.F) {
	f.Add([]byte{1, 2, 3, 4})
	f.Fuzz(func(t *testing.T, data []byte) {
		x := make([]float32, 256)
		for i := range x {
			var b [4]byte
			for k := range b {
				if len(data) > 0 {
					b[k] = data[(4*i+k)%len(data)]
				}
			}
			x[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[:]))
		}
		for kind, shape := range block {
			out := make([]byte, 256/shape[0]*shape[1])
			if gguf.Quantize(out, kind, x) != nil {
				continue
			}
			for i, v := range dequantize(t, kind, out) {
				if math.IsNaN(float64(v)) || math.IsInf(float64(v), 0) {
					t.Fatalf("%s: %g becomes %g", kind, x[i], v)
				}
			}
		}
	})
}

func BenchmarkQuantize(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	x := make([]float32, 256*64)
	for i := range x {
		x[i] = float32(rng.NormFloat64())
	}
	for _, kind := range []gguf.Type{gguf.Q8_0, gguf.Q5_0, gguf.Q4_K, gguf.Q6_K} {
		b.Run(kind.String(), func(b *testing.B) {
			out := make([]byte, len(x)/block[kind][0]*block[kind][1])
			b.SetBytes(int64(4 * len(x)))
			for b.Loop() {
				if err := gguf.Quantize(out, kind, x); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
