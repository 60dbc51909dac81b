package gguf_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// formats are those that are decoded.
var formats = []gguf.Type{gguf.F32, gguf.F16, gguf.BF16, gguf.Q8_0, gguf.Q4_0, gguf.Q4_1, gguf.Q5_0, gguf.Q5_1, gguf.Q4_K, gguf.Q5_K, gguf.Q6_K}

type vector struct{ blocks, values []byte }

// references are blocks of random bits and what llama.cpp's own Python package makes
// of them (testdata/dequantize.py).
func references(t testing.TB) map[string]vector {
	t.Helper()
	raw, err := os.ReadFile("testdata/dequantized.json")
	if err != nil {
		t.Fatal(err)
	}
	var file map[string]struct{ Blocks, Values string }
	if err := json.Unmarshal(raw, &file); err != nil {
		t.Fatal(err)
	}
	out := map[string]vector{}
	for name, v := range file {
		b, err1 := hex.DecodeString(v.Blocks)
		f, err2 := hex.DecodeString(v.Values)
		if err1 != nil || err2 != nil || len(b) == 0 || len(f) == 0 {
			t.Fatalf("%s: %v, %v", name, err1, err2)
		}
		out[name] = vector{b, f}
	}
	return out
}

// Every format decodes to the reference's floats, bit for bit.
func TestDequantizesAsTheReference(t *testing.T) {
	all := references(t)
	if len(all) != len(formats) {
		t.Errorf("%d formats in the reference, %d here", len(all), len(formats))
	}
	for _, kind := range formats {
		v, ok := all[kind.String()]
		if !ok {
			t.Errorf("no reference for %s", kind)
			continue
		}
		got := make([]float32, len(v.values)/4)
		if err := gguf.Dequantize(got, kind, v.blocks); err != nil {
			t.Fatal(err)
		}
		wrong := 0
		for i, g := range got {
			// A product of zeros may have either sign.
			want := math.Float32frombits(binary.LittleEndian.Uint32(v.values[4*i:]))
			if math.Float32bits(g) != math.Float32bits(want) && (g != 0 || want != 0) {
				wrong++
				t.Logf("%s[%d] = %g, want %g", kind, i, g, want)
			}
		}
		if wrong > 0 {
			t.Errorf("%s: %d of %d values differ", kind, wrong, len(got))
		}
	}
}

func TestDequantizeRefuses(t *testing.T) {
	for _, c := range []struct {
		kind   gguf.Type
		values int
		bytes  int
	}{{gguf.Q4_0, 32, 17}, {gguf.Q4_0, 31, 18}, {gguf.Q6_K, 32, 210}, {gguf.F32, 1, 5}, {10, 256, 84}, {99, 1, 1}} {
		if err := gguf.Dequantize(make([]float32, c.values), c.kind, make([]byte, c.bytes)); err == nil {
			t.Errorf("%d bytes of %s became %d values", c.bytes, c.kind, c.values)
		}
	}
}

// Rows gives any rows of a tensor, decoded.
func TestRows(t *testing.T) {
	v := references(t)["Q5_1"]
	path := filepath.Join(t.TempDir(), "x.gguf")
	w, err := gguf.NewWriter(path, nil, []gguf.TensorInfo{{Name: "a", Type: gguf.Q5_1, Shape: []int{3, 64}}})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if _, err := w.Write(v.blocks); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	rows, err := f.Rows("a")
	if err != nil {
		t.Fatal(err)
	}
	if rows.Count != 3 || rows.Width != 64 {
		t.Fatalf("%d rows of %d", rows.Count, rows.Width)
	}
	whole := make([]float32, 3*64)
	if err := gguf.Dequantize(whole, gguf.Q5_1, v.blocks); err != nil {
		t.Fatal(err)
	}
	for _, c := range [][2]int{{0, 3}, {1, 1}, {2, 1}, {1, 2}} {
		got := make([]float32, c[1]*64)
		if err := rows.Read(got, c[0]); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got, whole[c[0]*64:(c[0]+c[1])*64]) {
			t.Errorf("rows %d to %d differ", c[0], c[0]+c[1])
		}
	}
	for first, n := range map[int]int{-1: 64, 2: 128, 3: 64, 0: 63} {
		if err := rows.Read(make([]float32, n), first); err == nil {
			t.Errorf("%d values from row %d on were read", n, first)
		}
	}
}

// No bits make a decoder fail or read beyond its block, and each block decodes on its
// own.
func FuzzDequantize(f *testing.F) {
	for name, v := range references(f) {
		for i, kind := range formats {
			if kind.String() == name {
				f.Add(uint8(i), v.blocks)
			}
		}
	}
	f.Fuzz(func(t *testing.T, which uint8, raw []byte) {
		kind := formats[int(which)%len(formats)]
		elems := 1
		switch {
		case slices.Contains([]gguf.Type{gguf.Q4_K, gguf.Q5_K, gguf.Q6_K}, kind):
			elems = 256
		case kind.Quantized():
			elems = 32
		}
		size, err := gguf.TensorInfo{Type: kind, Shape: []int{elems}}.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		n := len(raw) / int(size)
		raw = raw[:n*int(size)]
		all := make([]float32, n*elems)
		if err := gguf.Dequantize(all, kind, raw); err != nil {
			t.Fatal(err)
		}
		one := make([]float32, elems)
		for i := range n {
			block := bytes.Clone(raw[i*int(size):][:size])
			if err := gguf.Dequantize(one, kind, block); err != nil {
				t.Fatal(err)
			}
			for j, v := range one {
				if math.Float32bits(v) != math.Float32bits(all[i*elems+j]) {
					t.Fatalf("%s block %d: value %d is %g alone and %g among others", kind, i, j, v, all[i*elems+j])
				}
			}
		}
	})
}
