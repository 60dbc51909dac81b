package weights_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/weights"
)

// image is a safetensors file with the given header text.
func image(header string, data []byte) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), data...)
}

func save(t testing.TB, name string, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, data, 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func tensor(name, dtype string, shape []int, data []byte) weights.Tensor {
	return weights.Tensor{TensorInfo: weights.TensorInfo{Name: name, DType: dtype, Shape: shape}, Data: data}
}

// What the reference implementation wrote is read: testdata/reference.safetensors
// was made with safetensors 0.8 for Python (testdata/reference.py).
func TestReadsTheReferencesFile(t *testing.T) {
	f, err := weights.Open("testdata/reference.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got := f.Metadata(); got["format"] != "pt" || got["made"] != "elsewhere" {
		t.Errorf("metadata %v", got)
	}
	names := f.Names()
	slices.Sort(names)
	if want := []string{"bool", "empty", "f16", "f32", "i64", "scalar"}; !slices.Equal(names, want) {
		t.Fatalf("names %v, want %v", names, want)
	}
	want := []float32{0, 1, -2.5, 65504, 0.000030517578125, float32(math.Inf(1))}
	for _, name := range []string{"f32", "f16"} {
		got, shape, err := f.Float32(name)
		if err != nil || !slices.Equal(shape, []int{2, 3}) || !slices.Equal(got, want) {
			t.Errorf("%s: %v %v %v, want %v", name, got, shape, err, want)
		}
	}
	if got, shape, err := f.Float32("scalar"); err != nil || len(shape) != 0 || !slices.Equal(got, []float32{7}) {
		t.Errorf("scalar: %v %v %v", got, shape, err)
	}
	if got, shape, err := f.Float32("empty"); err != nil || !slices.Equal(shape, []int{0, 4}) || len(got) != 0 {
		t.Errorf("empty: %v %v %v", got, shape, err)
	}
	if dtype, shape, data, err := f.Tensor("i64"); err != nil || dtype != "I64" || !slices.Equal(shape, []int{1}) || binary.LittleEndian.Uint64(data) != 1<<40 {
		t.Errorf("i64: %s %v %v %v", dtype, shape, data, err)
	}
	if _, _, err := f.Float32("i64"); err == nil {
		t.Error("I64 was converted to float32")
	}
	if _, _, _, err := f.Tensor("none"); err == nil || !strings.Contains(err.Error(), "none") {
		t.Errorf("a tensor that is not there: %v", err)
	}
}

// Whatever is written is read back.
func TestRoundTrip(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		var want []weights.Tensor
		for i := range rapid.IntRange(0, 6).Draw(rt, "tensors") {
			shape := rapid.SliceOfN(rapid.IntRange(0, 4), 0, 3).Draw(rt, "shape")
			info := weights.TensorInfo{Name: fmt.Sprintf("%d.%s", i, rapid.String().Draw(rt, "name")), DType: rapid.SampledFrom([]string{"F32", "F16", "BF16", "I64", "U8"}).Draw(rt, "dtype"), Shape: shape}
			info.Name = strings.ToValidUTF8(info.Name, "?")
			n, err := info.Bytes()
			if err != nil {
				rt.Fatal(err)
			}
			want = append(want, weights.Tensor{TensorInfo: info, Data: rapid.SliceOfN(rapid.Byte(), int(n), int(n)).Draw(rt, "data")})
		}
		path := filepath.Join(dir, "x.safetensors")
		if err := weights.WriteFile(path, want, map[string]string{"k": "v"}); err != nil {
			rt.Fatal(err)
		}
		f, err := weights.Open(path)
		if err != nil {
			rt.Fatal(err)
		}
		defer f.Close()
		if len(f.Names()) != len(want) || f.Metadata()["k"] != "v" || f.Metadata()["format"] != "pt" {
			rt.Fatalf("names %v, metadata %v", f.Names(), f.Metadata())
		}
		for _, w := range want {
			dtype, shape, data, err := f.Tensor(w.Name)
			if err != nil || dtype != w.DType || !slices.Equal(shape, w.Shape) || !bytes.Equal(data, w.Data) {
				rt.Fatalf("%q: %s %v %v, want %s %v", w.Name, dtype, shape, err, w.DType, w.Shape)
			}
		}
	})
	if left, err := filepath.Glob(filepath.Join(dir, ".*")); err != nil || len(left) > 0 {
		t.Errorf("temporary files are left: %v %v", left, err)
	}
}

// A file that is not what it should be is refused, and the error says why.
func TestBadFilesAreRefused(t *testing.T) {
	const a = `"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}`
	for _, c := range []struct{ want, header, data string }{
		{"outside", `{` + a + `}`, "123"},
		{"outside", `{"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}}`, ""},
		{"outside", `{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}`, "1234"},
		{"follow the last", `{` + a + `}`, "12345"},
		{"follow the last", `{}`, "1"},
		{"overlap", `{` + a + `,"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, "1234"},
		{"overlap", `{` + a + `,"b":{"dtype":"F32","shape":[1],"data_offsets":[2,6]}}`, "123456"},
		{"hole", `{` + a + `,"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]}}`, "123456789012"},
		{"hole", `{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, "12345678"},
		{"takes 8", `{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, "1234"},
		{"occurs twice", `{` + a + `,` + a + `}`, "1234"},
		{"unknown dtype", `{"a":{"dtype":"F33","shape":[1],"data_offsets":[0,4]}}`, "1234"},
		{"negative dimension", `{"a":{"dtype":"F32","shape":[-1,-1],"data_offsets":[0,4]}}`, "1234"},
		{"overflows", `{"a":{"dtype":"F32","shape":[4294967296,4294967296,16],"data_offsets":[0,4]}}`, "1234"},
		{"whole bytes", `{"a":{"dtype":"F4","shape":[1],"data_offsets":[0,1]}}`, "1"},
		{"missing", `{"a":{"dtype":"F32","shape":[1]}}`, ""},
		{"missing", `{"a":{"dtype":"F32","data_offsets":[0,4]}}`, "1234"},
		{"two numbers", `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4,8]}}`, "1234"},
		{"two numbers", `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,1e300]}}`, "1234"},
		{`"a"`, `{"a":7}`, ""},
		{"__metadata__", `{"__metadata__":{"k":7}}`, ""},
		{"not a JSON object", `[]`, ""},
		{"follows", `{} {}`, ""},
		{"header", `{"a"`, ""},
		{"header", ``, ""},
	} {
		f, err := weights.Open(save(t, "x.safetensors", image(c.header, []byte(c.data))))
		if err == nil {
			f.Close()
			t.Errorf("%s was accepted", c.header)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q", c.header, err, c.want)
		}
	}
	for want, raw := range map[string][]byte{
		"cannot be safetensors; fetch or copy it again":                         {1, 2, 3},
		"pointer of Git LFS, not the file itself: fetch that with git lfs pull": []byte("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"),
		"larger than": binary.LittleEndian.AppendUint64(nil, math.MaxUint64),
		"does not fit in a file of 8: truncated; the file is damaged or not whole": binary.LittleEndian.AppendUint64(nil, 100),
	} {
		if _, err := weights.Open(save(t, "x.safetensors", raw)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("% x: %v, want %q", raw, err, want)
		}
	}
	if _, err := weights.Open(t.TempDir()); err == nil || !strings.Contains(err.Error(), "neither") {
		t.Errorf("an empty folder: %v", err)
	}
}

func TestShards(t *testing.T) {
	dir := t.TempDir()
	for name, ts := range map[string][]weights.Tensor{
		"model-00001-of-00002.safetensors": {tensor("a", "U8", []int{1}, []byte{1}), tensor("b", "U8", []int{1}, []byte{2})},
		"model-00002-of-00002.safetensors": {tensor("c", "U8", []int{1}, []byte{3})},
	} {
		if err := weights.WriteFile(filepath.Join(dir, name), ts, nil); err != nil {
			t.Fatal(err)
		}
	}
	index := func(m map[string]string) {
		t.Helper()
		raw, err := json.Marshal(map[string]any{"metadata": map[string]any{"total_size": 3}, "weight_map": m})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, weights.IndexName), raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	one, two := "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
	index(map[string]string{"a": one, "b": one, "c": two})
	f, err := weights.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(f.Names(), []string{"a", "b", "c"}) {
		t.Errorf("names %v", f.Names())
	}
	if _, _, data, err := f.Tensor("c"); err != nil || !bytes.Equal(data, []byte{3}) {
		t.Errorf("c: %v %v", data, err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Errorf("second Close: %v", err)
	}
	for want, m := range map[string]map[string]string{
		"names no tensors": {},
		"lacks tensor":     {"a": one, "b": one, "c": two, "d": two},
		"the index places": {"a": one, "b": two, "c": two},
		"model-3.safetensors is not there, though model.safetensors.index.json names it: the model is not whole; fetch or copy that file too": {"a": "model-3.safetensors"},
		"not a file name": {"a": "../x.safetensors"},
	} {
		index(m)
		if _, err := weights.Open(dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", m, err, want)
		}
	}
}

// A writer that was not fed what it was told leaves nothing under the name.
func TestWriterIsAllOrNothing(t *testing.T) {
	infos := []weights.TensorInfo{{Name: "a", DType: "F16", Shape: []int{2}}, {Name: "none", DType: "F32", Shape: []int{0}}, {Name: "b", DType: "F32", Shape: []int{1}}}
	for label, feed := range map[string]func(*weights.Writer) error{
		"too little":   func(w *weights.Writer) error { return w.WriteFloat32("a", []float32{1, 2}) },
		"out of turn":  func(w *weights.Writer) error { return w.WriteFloat32("b", []float32{1}) },
		"wrong length": func(w *weights.Writer) error { return w.WriteTensor("a", []byte{1}) },
		"too much": func(w *weights.Writer) error {
			_, err := w.Write(make([]byte, 9))
			return err
		},
	} {
		path := filepath.Join(t.TempDir(), "x.safetensors")
		w, err := weights.NewWriter(path, infos, nil)
		if err != nil {
			t.Fatal(err)
		}
		err = feed(w)
		if closed := w.Close(); closed == nil || label != "too little" && err == nil {
			t.Errorf("%s: %v, Close: %v, want an error", label, err, closed)
		}
		left, err := os.ReadDir(filepath.Dir(path))
		if err != nil || len(left) > 0 {
			t.Errorf("%s: files are left: %v %v", label, left, err)
		}
	}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	w, err := weights.NewWriter(path, infos, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if err := w.WriteFloat32("a", []float32{1.5, -2}); err != nil {
		t.Fatal(err)
	}
	if err := w.WriteFloat32("b", []float32{7}); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	f, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if got, _, err := f.Float32("a"); err != nil || !slices.Equal(got, []float32{1.5, -2}) {
		t.Errorf("a: %v %v", got, err)
	}
	for want, infos := range map[string][]weights.TensorInfo{
		"is taken":      {{Name: "a", DType: "F32"}, {Name: "a", DType: "F32"}},
		"unknown dtype": {{Name: "a", DType: "Q8"}},
		"metadata":      {{Name: "__metadata__", DType: "F32"}},
	} {
		if _, err := weights.NewWriter(path, infos, nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", infos, err, want)
		}
	}
}

// A file of random bytes opens or fails; it never crashes or reads outside.
func FuzzOpen(f *testing.F) {
	ref, err := os.ReadFile("testdata/reference.safetensors")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ref)
	f.Add(image(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, []byte("1234")))
	f.Add(image(`{"a":{"dtype":"F4","shape":[2,0],"data_offsets":[0,0]},"__metadata__":{"a":"b"}}`, nil))
	f.Fuzz(func(t *testing.T, raw []byte) {
		w, err := weights.Open(save(t, "x.safetensors", raw))
		if err != nil {
			return
		}
		defer w.Close()
		total := 0
		for _, name := range w.Names() {
			_, _, data, err := w.Tensor(name)
			if err != nil {
				t.Fatal(err)
			}
			total += len(data)
			for _, b := range data {
				_ = b
			}
		}
		if n := int(binary.LittleEndian.Uint64(raw)); 8+n+total != len(raw) {
			t.Fatalf("header %d and data %d are not the file's %d bytes", n, total, len(raw))
		}
	})
}
