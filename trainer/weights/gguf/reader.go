package gguf

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
)

// File is an open GGUF file: its metadata and its tensors' places. It is safe for
// concurrent use until Close.
type File struct {
	file    *os.File
	kvs     []KV
	byKey   map[string]int
	tensors []TensorInfo
	byName  map[string]int
	data    int64 // where the data begin
}

// Open reads a file's head and checks that every tensor lies within the file and
// on its own.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("gguf: open: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("gguf: open: %w", err)
	}
	g, err := parse(f, st.Size())
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("gguf: %s: %w", path, err)
	}
	g.file = f
	return g, nil
}

// Close closes the file.
func (f *File) Close() error { return f.file.Close() }

// Metadata lists the entries in the order of the file. The slice is the caller's,
// the values are shared.
func (f *File) Metadata() []KV { return append([]KV(nil), f.kvs...) }

// Value is the value of one key.
func (f *File) Value(key string) (any, bool) {
	i, ok := f.byKey[key]
	if !ok {
		return nil, false
	}
	return f.kvs[i].Value, true
}

// Tensors lists the tensors in the order of the file. The slice is the caller's.
func (f *File) Tensors() []TensorInfo { return append([]TensorInfo(nil), f.tensors...) }

// Tensor describes one tensor.
func (f *File) Tensor(name string) (TensorInfo, bool) {
	i, ok := f.byName[name]
	if !ok {
		return TensorInfo{}, false
	}
	return f.tensors[i], true
}

// Data reads the bytes of one tensor.
func (f *File) Data(name string) (*io.SectionReader, error) {
	t, ok := f.Tensor(name)
	if !ok {
		return nil, fmt.Errorf("gguf: no tensor %q", name)
	}
	size, err := t.Bytes()
	if err != nil {
		return nil, err
	}
	return io.NewSectionReader(f.file, f.data+t.Offset, size), nil
}

// head reads the beginning of a file; left bounds every count in it, so that a lie
// about a length cannot make us allocate more than the file is long.
type head struct {
	r    *bufio.Reader
	left int64
}

func (h *head) bytes(n uint64) ([]byte, error) {
	if n > uint64(h.left) {
		return nil, fmt.Errorf("%d bytes are announced, but only %d follow", n, h.left)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(h.r, b); err != nil {
		return nil, err
	}
	h.left -= int64(n)
	return b, nil
}

func (h *head) u32() (uint32, error) {
	b, err := h.bytes(4)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint32(b), nil
}

func (h *head) u64() (uint64, error) {
	b, err := h.bytes(8)
	if err != nil {
		return 0, err
	}
	return binary.LittleEndian.Uint64(b), nil
}

func (h *head) str() (string, error) {
	n, err := h.u64()
	if err != nil {
		return "", err
	}
	b, err := h.bytes(n)
	return string(b), err
}

func (h *head) value(kind uint32) (any, error) {
	if kind == kindArray {
		return h.array()
	}
	if kind == kindString {
		return h.str()
	}
	size, ok := kindSize(kind)
	if !ok {
		return nil, fmt.Errorf("unknown type of value %d", kind)
	}
	b, err := h.bytes(uint64(size))
	if err != nil {
		return nil, err
	}
	le := binary.LittleEndian
	switch kind {
	case kindUint8:
		return b[0], nil
	case kindInt8:
		return int8(b[0]), nil
	case kindUint16:
		return le.Uint16(b), nil
	case kindInt16:
		return int16(le.Uint16(b)), nil
	case kindUint32:
		return le.Uint32(b), nil
	case kindInt32:
		return int32(le.Uint32(b)), nil
	case kindFloat32:
		return math.Float32frombits(le.Uint32(b)), nil
	case kindBool:
		if b[0] > 1 {
			return nil, fmt.Errorf("%d is no truth value", b[0])
		}
		return b[0] == 1, nil
	case kindUint64:
		return le.Uint64(b), nil
	case kindInt64:
		return int64(le.Uint64(b)), nil
	}
	return math.Float64frombits(le.Uint64(b)), nil
}

func (h *head) array() (any, error) {
	kind, err := h.u32()
	if err != nil {
		return nil, err
	}
	n, err := h.u64()
	if err != nil {
		return nil, err
	}
	size, ok := kindSize(kind)
	if !ok {
		return nil, fmt.Errorf("arrays of type %d are not supported", kind)
	}
	if n > uint64(h.left/size) {
		return nil, fmt.Errorf("an array of %d values is announced, but only %d bytes follow", n, h.left)
	}
	switch kind {
	case kindUint8:
		return readArray[uint8](h, kind, n)
	case kindInt8:
		return readArray[int8](h, kind, n)
	case kindUint16:
		return readArray[uint16](h, kind, n)
	case kindInt16:
		return readArray[int16](h, kind, n)
	case kindUint32:
		return readArray[uint32](h, kind, n)
	case kindInt32:
		return readArray[int32](h, kind, n)
	case kindFloat32:
		return readArray[float32](h, kind, n)
	case kindBool:
		return readArray[bool](h, kind, n)
	case kindUint64:
		return readArray[uint64](h, kind, n)
	case kindInt64:
		return readArray[int64](h, kind, n)
	case kindFloat64:
		return readArray[float64](h, kind, n)
	}
	return readArray[string](h, kind, n)
}

func readArray[T any](h *head, kind uint32, n uint64) ([]T, error) {
	out := make([]T, 0, n)
	for range n {
		v, err := h.value(kind)
		if err != nil {
			return nil, err
		}
		out = append(out, v.(T))
	}
	return out, nil
}

func parse(r io.ReaderAt, size int64) (*File, error) {
	h := newHead(r, size)
	f, tensors, err := readMetadata(h)
	if err != nil {
		return nil, err
	}
	for i := range tensors {
		if err := f.readInfo(h); err != nil {
			return nil, fmt.Errorf("tensor %d: %w", i, err)
		}
	}
	step := int64(alignment)
	if v, ok := f.Value(alignmentKey); ok {
		n, ok := v.(uint32)
		if !ok || n == 0 || n%8 != 0 || n > 1<<20 {
			return nil, fmt.Errorf("%s is %v, not a multiple of 8", alignmentKey, v)
		}
		step = int64(n)
	}
	f.data = (size - h.left + step - 1) / step * step
	return f, f.checkRanges(size, step)
}

func newHead(r io.ReaderAt, size int64) *head {
	return &head{r: bufio.NewReaderSize(io.NewSectionReader(r, 0, size), 1<<16), left: size}
}

// readMetadata reads what stands before the list of tensors, and how many of them there are.
// With an error comes what could be read, or nil if it is no such file.
func readMetadata(h *head) (f *File, tensors uint64, err error) {
	magic, err := h.bytes(4)
	if err != nil || string(magic) != "GGUF" {
		return nil, 0, errors.New("not a GGUF file")
	}
	v, err := h.u32()
	if err != nil {
		return nil, 0, err
	}
	if v != version && v != 2 { // 2 differs in nothing but big-endian files
		return nil, 0, fmt.Errorf("version %d is not supported, only 2 and 3", v)
	}
	if tensors, err = h.u64(); err != nil {
		return nil, 0, err
	}
	kvs, err := h.u64()
	if err != nil {
		return nil, 0, err
	}
	f = &File{byKey: map[string]int{}, byName: map[string]int{}}
	for i := range kvs {
		if err := f.readKV(h); err != nil {
			return f, 0, fmt.Errorf("metadata %d: %w", i, err)
		}
	}
	return f, tensors, nil
}

func (f *File) readKV(h *head) error {
	key, err := h.str()
	if err != nil {
		return err
	}
	if _, dup := f.byKey[key]; dup {
		return fmt.Errorf("key %q occurs twice", key)
	}
	kind, err := h.u32()
	if err != nil {
		return err
	}
	value, err := h.value(kind)
	if err != nil {
		return fmt.Errorf("key %q: %w", key, err)
	}
	f.byKey[key] = len(f.kvs)
	f.kvs = append(f.kvs, KV{key, value})
	return nil
}

func (f *File) readInfo(h *head) error {
	name, err := h.str()
	if err != nil {
		return err
	}
	if _, dup := f.byName[name]; dup {
		return fmt.Errorf("name %q occurs twice", name)
	}
	n, err := h.u32()
	if err != nil {
		return err
	}
	if n == 0 || n > maxDims {
		return fmt.Errorf("%q has %d dimensions, want 1 to %d", name, n, maxDims)
	}
	shape := make([]int, n)
	for i := int(n) - 1; i >= 0; i-- {
		d, err := h.u64()
		if err != nil {
			return err
		}
		if d > math.MaxInt32 {
			return fmt.Errorf("%q has a dimension of %d", name, d)
		}
		shape[i] = int(d)
	}
	kind, err := h.u32()
	if err != nil {
		return err
	}
	offset, err := h.u64()
	if err != nil {
		return err
	}
	if offset > math.MaxInt64 {
		return fmt.Errorf("%q has the offset %d", name, offset)
	}
	f.byName[name] = len(f.tensors)
	f.tensors = append(f.tensors, TensorInfo{name, Type(kind), shape, int64(offset)})
	return nil
}

// checkRanges makes sure that the tensors follow one another in the file, aligned
// and without overlap, as llama.cpp itself demands.
func (f *File) checkRanges(size, step int64) error {
	at := int64(0)
	for _, t := range f.tensors {
		n, err := t.Bytes()
		if err != nil {
			return err
		}
		if t.Offset != at {
			return fmt.Errorf("tensor %q begins at %d, want %d", t.Name, t.Offset, at)
		}
		if n > size || f.data+at > size-n {
			return fmt.Errorf("tensor %q: %d bytes at %d do not fit in a file of %d: truncated?", t.Name, n, f.data+at, size)
		}
		at += (n + step - 1) / step * step
	}
	return nil
}
