package gguf

import (
	"fmt"
	"io"
)

// Rows decodes a tensor row by row, so that no more than the rows asked for has to
// be in memory. A row is the innermost dimension. It is for one goroutine.
type Rows struct {
	data   *io.SectionReader
	info   TensorInfo
	stride int64 // bytes of a row
	raw    []byte
	Count  int // rows
	Width  int // values in a row
}

// Rows opens a tensor for reading.
func (f *File) Rows(name string) (*Rows, error) {
	data, err := f.Data(name)
	if err != nil {
		return nil, err
	}
	info, _ := f.Tensor(name)
	if !info.Type.Decodes() {
		return nil, fmt.Errorf("gguf: tensor %q is %s, which is not decoded", name, info.Type)
	}
	r := &Rows{data: data, info: info, Count: 1, Width: info.Shape[len(info.Shape)-1]}
	for _, d := range info.Shape[:len(info.Shape)-1] {
		r.Count *= d
	}
	if r.Count > 0 {
		r.stride = data.Size() / int64(r.Count)
	}
	return r, nil
}

// Read decodes the rows from first on, as many as dst holds.
func (r *Rows) Read(dst []float32, first int) error {
	if r.Width == 0 || len(dst)%r.Width != 0 || first < 0 || first > r.Count-len(dst)/r.Width {
		return fmt.Errorf("gguf: tensor %q: %d values from row %d on are not rows of %d x %d", r.info.Name, len(dst), first, r.Count, r.Width)
	}
	n := int64(len(dst)/r.Width) * r.stride
	if int64(cap(r.raw)) < n {
		r.raw = make([]byte, n)
	}
	raw := r.raw[:n]
	if _, err := r.data.ReadAt(raw, int64(first)*r.stride); err != nil && err != io.EOF {
		return fmt.Errorf("gguf: tensor %q: %w", r.info.Name, err)
	}
	return Dequantize(dst, r.info.Type, raw)
}
