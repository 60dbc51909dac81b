package gguf_test

import (
	"bytes"
	"encoding/binary"
	"io"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

func save(t testing.TB, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "x.gguf")
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func data(t testing.TB, f *gguf.File, name string) []byte {
	t.Helper()
	r, err := f.Data(name)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// What llama.cpp's own Python package wrote is read (testdata/reference.py).
func TestReadsTheReferencesFile(t *testing.T) {
	f, err := gguf.Open("testdata/reference.gguf")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	want := []gguf.KV{
		{"general.architecture", "llama"},
		{"a.u8", uint8(200)}, {"a.i8", int8(-100)}, {"a.u16", uint16(60000)}, {"a.i16", int16(-30000)},
		{"a.u32", uint32(4000000000)}, {"a.i32", int32(-2000000000)}, {"a.u64", uint64(1 << 63)}, {"a.i64", int64(-(1 << 62))},
		{"a.f32", float32(1.5)}, {"a.f64", 0.1}, {"a.bool", true}, {"a.string", "Ünïcode 🎉"},
		{"a.strings", []string{"", "a", "bc"}}, {"a.ints", []int32{1, -2, 3}}, {"a.floats", []float32{0.5, -1}},
	}
	if got := f.Metadata(); !reflect.DeepEqual(got, want) {
		t.Errorf("metadata\n got %v\nwant %v", got, want)
	}
	for name, want := range map[string]gguf.TensorInfo{
		"f32": {Type: gguf.F32, Shape: []int{2, 3}}, "f16": {Type: gguf.F16, Shape: []int{4}}, "q8": {Type: gguf.Q8_0, Shape: []int{2, 64}},
	} {
		if got, ok := f.Tensor(name); !ok || got.Type != want.Type || !slices.Equal(got.Shape, want.Shape) {
			t.Errorf("%s: %+v, want %+v", name, got, want)
		}
	}
	for i, b := 0, data(t, f, "f32"); i < 6; i++ {
		if got := math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:])); got != float32(i) {
			t.Errorf("f32[%d] = %v", i, got)
		}
	}
	if got := len(data(t, f, "q8")); got != 2*2*34 {
		t.Errorf("q8 has %d bytes", got)
	}
	if _, err := f.Data("none"); err == nil {
		t.Error("a tensor that is not there was read")
	}
}

// Whatever is written is read back.
func TestRoundTrip(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.gguf")
	value := rapid.OneOf(
		rapid.Uint8().AsAny(), rapid.Int8().AsAny(), rapid.Uint16().AsAny(), rapid.Int16().AsAny(), rapid.Uint32().AsAny(), rapid.Int32().AsAny(),
		rapid.Uint64().AsAny(), rapid.Int64().AsAny(), rapid.Float32().AsAny(), rapid.Float64().AsAny(), rapid.Bool().AsAny(), rapid.String().AsAny(),
		rapid.SliceOf(rapid.Uint8()).AsAny(), rapid.SliceOf(rapid.Int8()).AsAny(), rapid.SliceOf(rapid.Uint16()).AsAny(), rapid.SliceOf(rapid.Int16()).AsAny(),
		rapid.SliceOf(rapid.Uint32()).AsAny(), rapid.SliceOf(rapid.Int32()).AsAny(), rapid.SliceOf(rapid.Uint64()).AsAny(), rapid.SliceOf(rapid.Int64()).AsAny(),
		rapid.SliceOf(rapid.Float32()).AsAny(), rapid.SliceOf(rapid.Float64()).AsAny(), rapid.SliceOf(rapid.Bool()).AsAny(), rapid.SliceOf(rapid.String()).AsAny(),
	)
	rapid.Check(t, func(rt *rapid.T) {
		kvs := []gguf.KV{}
		for _, key := range rapid.SliceOfDistinct(rapid.StringMatching(`[a-z]{1,4}`), rapid.ID).Draw(rt, "keys") {
			kvs = append(kvs, gguf.KV{Key: key, Value: value.Draw(rt, "value")})
		}
		var infos []gguf.TensorInfo
		var want [][]byte
		for _, name := range rapid.SliceOfDistinct(rapid.StringMatching(`[a-z]{1,4}`), rapid.ID).Draw(rt, "names") {
			info := gguf.TensorInfo{Name: name, Type: rapid.SampledFrom([]gguf.Type{gguf.F32, gguf.F16, gguf.BF16, gguf.Q8_0}).Draw(rt, "type"), Shape: rapid.SliceOfN(rapid.IntRange(0, 3), 1, 4).Draw(rt, "shape")}
			if info.Type == gguf.Q8_0 {
				info.Shape[len(info.Shape)-1] *= 32
			}
			n, err := info.Bytes()
			if err != nil {
				rt.Fatal(err)
			}
			infos = append(infos, info)
			want = append(want, rapid.SliceOfN(rapid.Byte(), int(n), int(n)).Draw(rt, "data"))
		}
		w, err := gguf.NewWriter(path, kvs, infos)
		if err != nil {
			rt.Fatal(err)
		}
		defer w.Abort()
		for _, b := range want {
			if _, err := w.Write(b); err != nil {
				rt.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			rt.Fatal(err)
		}
		f, err := gguf.Open(path)
		if err != nil {
			rt.Fatal(err)
		}
		defer f.Close()
		if got := f.Metadata(); !reflect.DeepEqual(append([]gguf.KV{}, got...), kvs) {
			rt.Fatalf("metadata %#v, want %#v", got, kvs)
		}
		for i, info := range infos {
			got, ok := f.Tensor(info.Name)
			if !ok || got.Type != info.Type || !slices.Equal(got.Shape, info.Shape) || !bytes.Equal(data(t, f, info.Name), want[i]) {
				rt.Fatalf("%+v came back as %+v", info, got)
			}
		}
	})
}

func TestWriterRefuses(t *testing.T) {
	one := []gguf.TensorInfo{{Name: "a", Type: gguf.F32, Shape: []int{2}}}
	for want, c := range map[string]struct {
		kvs   []gguf.KV
		infos []gguf.TensorInfo
	}{
		"there twice":     {kvs: []gguf.KV{{"a", true}, {"a", true}}},
		"cannot be":       {kvs: []gguf.KV{{"a", 7}}},
		"longer than":     {infos: []gguf.TensorInfo{{Name: strings.Repeat("x", 64), Shape: []int{1}}}},
		"do not fill":     {infos: []gguf.TensorInfo{{Name: "a", Type: gguf.Q8_0, Shape: []int{33}}}},
		"unknown type":    {infos: []gguf.TensorInfo{{Name: "a", Type: 99, Shape: []int{1}}}},
		"dimensions":      {infos: []gguf.TensorInfo{{Name: "a", Type: gguf.F32}}},
		"impossible":      {infos: []gguf.TensorInfo{{Name: "a", Type: gguf.F32, Shape: []int{1 << 40, 1 << 40}}}},
		alignmentKeyTaken: {kvs: []gguf.KV{{"general.alignment", uint32(64)}}},
	} {
		if _, err := gguf.NewWriter(filepath.Join(t.TempDir(), "x"), c.kvs, c.infos); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: %v, want %q", c, err, want)
		}
	}
	for label, feed := range map[string][]byte{"too little": make([]byte, 7), "too much": make([]byte, 9)} {
		path := filepath.Join(t.TempDir(), "x")
		w, err := gguf.NewWriter(path, nil, one)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(feed)
		if w.Close() == nil {
			t.Errorf("%s data were accepted", label)
		}
		if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) > 0 {
			t.Errorf("%s: %v %v", label, left, err)
		}
	}
}

const alignmentKeyTaken = `"general.alignment"`

// build makes a file from its parts: numbers little-endian, strings with a length.
func build(parts ...any) []byte {
	b := []byte("GGUF")
	for _, p := range parts {
		switch v := p.(type) {
		case uint32:
			b = binary.LittleEndian.AppendUint32(b, v)
		case uint64:
			b = binary.LittleEndian.AppendUint64(b, v)
		case int: // so many zero bytes
			b = append(b, make([]byte, v)...)
		case string:
			b = append(binary.LittleEndian.AppendUint64(b, uint64(len(v))), v...)
		case byte:
			b = append(b, v)
		}
	}
	return b
}

func TestBadFilesAreRefused(t *testing.T) {
	const v, one, none = uint32(3), uint64(1), uint64(0)
	tensor := func(offset uint64) []any {
		return []any{v, one, none, "a", uint32(1), uint64(8), uint32(0), offset}
	}
	for _, c := range []struct {
		want string
		raw  []byte
	}{
		{"not a GGUF", []byte("GGU")},
		{"not a GGUF", []byte("GGML....")},
		{"version 4", build(uint32(4), none, none)},
		{"only 0 follow", build(v)},
		{"metadata 0", build(v, none, uint64(1<<60))},
		{"tensor 0", build(v, uint64(1<<60), none)},
		{"announced", build(v, none, one, uint64(1<<40))},
		{"occurs twice", build(v, none, uint64(2), "a", uint32(7), byte(1), "a", uint32(7), byte(1))},
		{"no truth value", build(v, none, one, "a", uint32(7), byte(2))},
		{"unknown type", build(v, none, one, "a", uint32(13))},
		{"an array of", build(v, none, one, "a", uint32(9), uint32(8), uint64(1<<40))},
		{"arrays of type", build(v, none, one, "a", uint32(9), uint32(9), uint64(1))},
		{"multiple of 8", build(v, none, one, "general.alignment", uint32(4), uint32(7))},
		{"dimensions", build(v, one, none, "a", uint32(5))},
		{"unknown type 99", build(v, one, none, "a", uint32(1), uint64(8), uint32(99), uint64(0), 100)},
		{"do not fill", build(v, one, none, "a", uint32(1), uint64(8), uint32(8), uint64(0), 100)},
		{"dimension of", build(v, one, none, "a", uint32(1), uint64(1<<40), uint32(0), uint64(0), 100)},
		{"truncated", build(tensor(0)...)},
		{"begins at 32", build(append(tensor(32), 200)...)},
		{"offset", build(append(tensor(1<<63), 200)...)},
		{"occurs twice", build(v, uint64(2), none, "a", uint32(1), uint64(8), uint32(0), uint64(0), "a", uint32(1), uint64(8), uint32(0), uint64(32), 200)},
	} {
		f, err := gguf.Open(save(t, c.raw))
		if err == nil {
			f.Close()
			t.Errorf("% x was accepted, want %q", c.raw, c.want)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("% x: %v, want %q", c.raw, err, c.want)
		}
	}
	f, err := gguf.Open(save(t, build(append(tensor(0), 100)...)))
	if err != nil {
		t.Fatalf("the good one of these: %v", err)
	}
	f.Close()
}

// A file of random bytes opens or fails; what opens has its data within the file.
func FuzzOpen(f *testing.F) {
	ref, err := os.ReadFile("testdata/reference.gguf")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ref)
	f.Add(build(uint32(3), uint64(1), uint64(0), "a", uint32(1), uint64(8), uint32(0), uint64(0), 100))
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, raw []byte) {
		path := filepath.Join(dir, "x.gguf")
		if err := os.WriteFile(path, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		g, err := gguf.Open(path)
		if err != nil {
			return
		}
		defer g.Close()
		for _, info := range g.Tensors() {
			n, err := info.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			if got := int64(len(data(t, g, info.Name))); got != n {
				t.Fatalf("%s: %d bytes, want %d", info.Name, got, n)
			}
		}
	})
}
