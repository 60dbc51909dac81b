package weights

import (
	"fmt"

	"github.com/tunemesh/tunemesh/trainer/weights/atomicfile"
)

// Tensor is a tensor with its bytes, little-endian and row-major.
type Tensor struct {
	TensorInfo
	Data []byte
}

// Writer writes one safetensors file as a stream: the tensors are described
// first, then their bytes follow one by one, so that no more than one has to be
// in memory. The file appears under its name only by Close, whole and synced, or
// not at all.
type Writer struct {
	path  string
	file  *atomicfile.File
	done  bool
	infos []TensorInfo
	sizes []int64
	next  int   // the tensor that is being written
	left  int64 // bytes that it still lacks
	err   error
}

// NewWriter creates path's temporary file and writes the header for the tensors,
// whose data have to follow in this order. To metadata, which may be nil,
// {"format": "pt"} is added if it has no format: Hugging Face's loaders refuse a
// file without it.
func NewWriter(path string, tensors []TensorInfo, metadata map[string]string) (*Writer, error) {
	meta := map[string]string{"format": "pt"}
	for k, v := range metadata {
		meta[k] = v
	}
	head, sizes, err := encodeHeader(tensors, meta)
	if err != nil {
		return nil, fmt.Errorf("weights: write %s: %w", path, err)
	}
	f, err := atomicfile.Create(path)
	if err != nil {
		return nil, fmt.Errorf("weights: write: %w", err)
	}
	w := &Writer{path: path, file: f, infos: tensors, sizes: sizes, next: -1}
	if _, err := f.Write(head); err != nil {
		w.Abort()
		return nil, fmt.Errorf("weights: write %s: %w", path, err)
	}
	w.advance()
	return w, nil
}

// advance steps to the next tensor that has any bytes.
func (w *Writer) advance() {
	for w.left == 0 && w.next < len(w.infos) {
		w.next++
		if w.next < len(w.infos) {
			w.left = w.sizes[w.next]
		}
	}
}

// Write appends p to the data, which may cross from one tensor to the next. It
// makes Writer an io.Writer; WriteTensor is the checked way.
func (w *Writer) Write(p []byte) (int, error) {
	done := 0
	for len(p) > 0 && w.err == nil {
		if w.next >= len(w.infos) {
			w.err = fmt.Errorf("weights: write %s: %d bytes more than the tensors described", w.path, len(p))
			break
		}
		n := min(int64(len(p)), w.left)
		if _, err := w.file.Write(p[:n]); err != nil {
			w.err = fmt.Errorf("weights: write %s: %w", w.path, err)
			break
		}
		done += int(n)
		p, w.left = p[n:], w.left-n
		w.advance()
	}
	return done, w.err
}

// WriteTensor writes all bytes of one tensor, which has to be the next one.
func (w *Writer) WriteTensor(name string, data []byte) error {
	if w.err != nil {
		return w.err
	}
	if len(data) == 0 {
		return nil // advance has stepped over it
	}
	if w.next >= len(w.infos) || w.infos[w.next].Name != name || w.left != w.sizes[w.next] {
		w.err = fmt.Errorf("weights: write %s: tensor %q out of turn", w.path, name)
		return w.err
	}
	if int64(len(data)) != w.left {
		w.err = fmt.Errorf("weights: write %s: tensor %q has %d bytes, %d were described", w.path, name, len(data), w.left)
		return w.err
	}
	_, err := w.Write(data)
	return err
}

// WriteFloat32 converts values to the tensor's dtype (F32, F16 or BF16) in small
// pieces and writes them; the tensor has to be the next one.
func (w *Writer) WriteFloat32(name string, values []float32) error {
	if w.err != nil {
		return w.err
	}
	if len(values) == 0 {
		return nil
	}
	if w.next >= len(w.infos) || w.infos[w.next].Name != name || w.left != w.sizes[w.next] {
		w.err = fmt.Errorf("weights: write %s: tensor %q out of turn", w.path, name)
		return w.err
	}
	dtype := w.infos[w.next].DType
	bits, _ := dtypeBits(dtype)
	if int64(len(values))*int64(bits)/8 != w.left {
		w.err = fmt.Errorf("weights: write %s: tensor %q has %d values, but %d bytes of %s were described", w.path, name, len(values), w.left, dtype)
		return w.err
	}
	const piece = 16 << 10
	buf := make([]byte, min(len(values), piece)*bits/8)
	for len(values) > 0 {
		n := min(len(values), piece)
		b := buf[:n*bits/8]
		if err := FromF32(b, dtype, values[:n]); err != nil {
			w.err = fmt.Errorf("weights: write %s: tensor %q: %w", w.path, name, err)
			return w.err
		}
		if _, err := w.Write(b); err != nil {
			return err
		}
		values = values[n:]
	}
	return nil
}

// Close completes the file: flush, fsync, rename, fsync of the folder. If data are
// missing or a write has failed nothing appears under the name. A second Close
// does nothing.
func (w *Writer) Close() error {
	if w.done {
		return w.err
	}
	if w.err == nil && w.next < len(w.infos) {
		w.err = fmt.Errorf("weights: write %s: tensor %q lacks %d bytes", w.path, w.infos[w.next].Name, w.left)
	}
	if w.err == nil {
		w.done = true
		if err := w.file.Commit(); err != nil {
			w.err = fmt.Errorf("weights: write %s: %w", w.path, err)
		}
	}
	w.Abort()
	return w.err
}

// Abort gives the file up and removes what was written. After Close it does
// nothing, so that it can be deferred.
func (w *Writer) Abort() {
	if w.done {
		return
	}
	w.done = true
	w.file.Abort()
	if w.err == nil {
		w.err = fmt.Errorf("weights: write %s: aborted", w.path)
	}
}

// WriteFloats writes a file of tensors whose dtype is F32, F16 or BF16, from the
// values that value gives for the name of each.
func WriteFloats(path string, tensors []TensorInfo, value func(name string) ([]float32, error)) error {
	w, err := NewWriter(path, tensors, nil)
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, t := range tensors {
		values, err := value(t.Name)
		if err != nil {
			return err
		}
		if err := w.WriteFloat32(t.Name, values); err != nil {
			return err
		}
	}
	return w.Close()
}

// WriteFile writes tensors that are in memory already.
func WriteFile(path string, tensors []Tensor, metadata map[string]string) error {
	infos := make([]TensorInfo, len(tensors))
	for i, t := range tensors {
		infos[i] = t.TensorInfo
	}
	w, err := NewWriter(path, infos, metadata)
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, t := range tensors {
		if err := w.WriteTensor(t.Name, t.Data); err != nil {
			return err
		}
	}
	return w.Close()
}
