package weights_test

import (
	"encoding/binary"
	"math"
	"math/big"
	"math/rand/v2"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/weights"
)

// Every half number survives the way to float32 and back.
func TestHalvesRoundTrip(t *testing.T) {
	for i := range 1 << 16 {
		h := uint16(i)
		f := weights.F16ToF32(h)
		if f != f {
			if back := weights.F32ToF16(f); weights.F16ToF32(back) == weights.F16ToF32(back) {
				t.Fatalf("f16 NaN %04x became %04x", h, back)
			}
		} else if back := weights.F32ToF16(f); back != h {
			t.Fatalf("f16 %04x -> %v -> %04x", h, f, back)
		}
		b := weights.BF16ToF32(h)
		if b != b {
			if back := weights.F32ToBF16(b); weights.BF16ToF32(back) == weights.BF16ToF32(back) {
				t.Fatalf("bf16 NaN %04x became %04x", h, back)
			}
		} else if back := weights.F32ToBF16(b); back != h {
			t.Fatalf("bf16 %04x -> %v -> %04x", h, b, back)
		}
	}
}

// f16Value is what the bits mean by IEEE 754, apart from the code under test.
func f16Value(h uint16) float64 {
	e, m := int(h>>10)&31, float64(h&1023)
	v := math.Ldexp(1+m/1024, e-15)
	if e == 0 {
		v = math.Ldexp(m/1024, -14)
	}
	if h>>15 == 1 {
		v = -v
	}
	return v
}

// Rounding is to nearest, ties to even: at every midpoint between neighbours, and
// one float32 to each side of it.
func TestRoundingToNearestEven(t *testing.T) {
	for h := uint16(0); h < 0x7bff; h++ {
		lo, hi := f16Value(h), f16Value(h+1)
		mid := float32((lo + hi) / 2) // exact: one bit more than 11
		even := h + h&1
		for f, want := range map[float32]uint16{mid: even, math.Nextafter32(mid, 0): h, math.Nextafter32(mid, 1e9): h + 1, float32(lo): h} {
			if got := weights.F32ToF16(f); got != want {
				t.Fatalf("f16(%v) = %04x, want %04x", f, got, want)
			}
			if got := weights.F32ToF16(-f); got != want|0x8000 {
				t.Fatalf("f16(%v) = %04x, want %04x", -f, got, want|0x8000)
			}
		}
	}
	for f, want := range map[float32]uint16{65504: 0x7bff, 65519.996: 0x7bff, 65520: 0x7c00, 1e30: 0x7c00, float32(math.Inf(-1)): 0xfc00, 1e-30: 0} {
		if got := weights.F32ToF16(f); got != want {
			t.Errorf("f16(%v) = %04x, want %04x", f, got, want)
		}
	}
	rng := rand.New(rand.NewPCG(3, 4))
	for range 200000 {
		f := math.Float32frombits(rng.Uint32())
		if f != f || math.IsInf(float64(f), 0) || math.Abs(float64(f)) > 3e38 {
			continue
		}
		// An 8-bit significand, rounded to nearest even by another implementation. It
		// knows no subnormals, so that those are left out.
		if math.Abs(float64(f)) < 1.2e-38 {
			continue
		}
		want, _ := new(big.Float).SetPrec(8).SetMode(big.ToNearestEven).SetFloat64(float64(f)).Float32()
		if got := weights.BF16ToF32(weights.F32ToBF16(f)); got != want {
			t.Fatalf("bf16(%v) = %v, want %v", f, got, want)
		}
	}
}

// Slices are converted in blocks, by the processor where it can: every value gets the
// bits that it gets alone, wherever it stands.
func TestSlicesConvertAsSingleValuesDo(t *testing.T) {
	src := make([]byte, 2*(1<<16+7))
	for i := range len(src) / 2 {
		binary.LittleEndian.PutUint16(src[2*i:], uint16(i*40503)) // all, in no order that a block could profit from
	}
	rng := rand.New(rand.NewPCG(5, 6))
	values := make([]float32, 1<<18+13)
	for i := range values {
		values[i] = math.Float32frombits(rng.Uint32())
		if i%3 == 0 { // among the halves
			values[i] = float32(rng.NormFloat64()) * float32(math.Pow(2, float64(rng.IntN(44)-26)))
		}
	}
	copy(values, []float32{65504, 65519.996, 65520, -65520, float32(math.Inf(1)), float32(math.Inf(-1)), 0, float32(math.Copysign(0, -1)), math.Float32frombits(0x7f800001), math.Float32frombits(0xffc12345), 1e-45, -1e-45})
	for dtype, one := range map[string]struct {
		widen  func(uint16) float32
		narrow func(float32) uint16
	}{weights.F16: {weights.F16ToF32, weights.F32ToF16}, weights.BF16: {weights.BF16ToF32, weights.F32ToBF16}} {
		wide := make([]float32, len(src)/2)
		if err := weights.ToF32(wide, dtype, src); err != nil {
			t.Fatal(err)
		}
		for i, v := range wide {
			h := binary.LittleEndian.Uint16(src[2*i:])
			if want := one.widen(h); math.Float32bits(v) != math.Float32bits(want) {
				t.Fatalf("%s %04x at %d became %08x, alone %08x", dtype, h, i, math.Float32bits(v), math.Float32bits(want))
			}
		}
		narrow := make([]byte, 2*len(values))
		if err := weights.FromF32(narrow, dtype, values); err != nil {
			t.Fatal(err)
		}
		for i, v := range values {
			if got, want := binary.LittleEndian.Uint16(narrow[2*i:]), one.narrow(v); got != want {
				t.Fatalf("%08x at %d became %s %04x, alone %04x", math.Float32bits(v), i, dtype, got, want)
			}
		}
	}
}

func TestConversionChecksLengths(t *testing.T) {
	if weights.ToF32(make([]float32, 2), "F16", make([]byte, 3)) == nil {
		t.Error("3 bytes were taken for 2 halves")
	}
	if weights.FromF32(make([]byte, 4), "I32", make([]float32, 1)) == nil {
		t.Error("I32 was written")
	}
}
