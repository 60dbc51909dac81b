package gguf

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/tunemesh/tunemesh/trainer/weights/atomicfile"
)

const (
	version      = 3
	alignment    = 32 // the default of general.alignment, which we never change
	alignmentKey = "general.alignment"
	maxKeyBytes  = 1<<16 - 1
	// maxNameBytes is GGML_MAX_NAME - 1: llama.cpp refuses longer tensor names.
	maxNameBytes = 63
)

// Writer writes one GGUF file as a stream: metadata and descriptions first, then
// the tensors' data in the same order. The file appears under its name by Close,
// whole and synced, or not at all.
type Writer struct {
	path    string
	file    *atomicfile.File
	tensors []TensorInfo
	sizes   []int64
	next    int
	left    int64
	done    bool
	err     error
}

// NewWriter creates the file and writes everything but the data.
func NewWriter(path string, metadata []KV, tensors []TensorInfo) (*Writer, error) {
	head, sizes, err := encodeHead(metadata, tensors)
	if err != nil {
		return nil, fmt.Errorf("gguf: write %s: %w", path, err)
	}
	f, err := atomicfile.Create(path)
	if err != nil {
		return nil, fmt.Errorf("gguf: write: %w", err)
	}
	w := &Writer{path: path, file: f, tensors: tensors, sizes: sizes, next: -1}
	if _, err := f.Write(head); err != nil {
		f.Abort()
		return nil, fmt.Errorf("gguf: write %s: %w", path, err)
	}
	if err := w.advance(); err != nil {
		f.Abort()
		return nil, err
	}
	return w, nil
}

func encodeHead(metadata []KV, tensors []TensorInfo) (head []byte, sizes []int64, err error) {
	le := binary.LittleEndian
	b := []byte("GGUF")
	b = le.AppendUint32(b, version)
	b = le.AppendUint64(b, uint64(len(tensors)))
	b = le.AppendUint64(b, uint64(len(metadata)))
	keys := map[string]bool{alignmentKey: true}
	for _, kv := range metadata {
		if kv.Key == "" || len(kv.Key) > maxKeyBytes || keys[kv.Key] {
			return nil, nil, fmt.Errorf("key %q is empty, too long or there twice", kv.Key)
		}
		keys[kv.Key] = true
		if b, err = appendValue(appendString(b, kv.Key), kv.Value); err != nil {
			return nil, nil, fmt.Errorf("key %q: %w", kv.Key, err)
		}
	}
	names := map[string]bool{}
	at := int64(0)
	for _, t := range tensors {
		if t.Name == "" || len(t.Name) > maxNameBytes || names[t.Name] {
			return nil, nil, fmt.Errorf("tensor name %q is empty, longer than %d bytes or there twice", t.Name, maxNameBytes)
		}
		names[t.Name] = true
		size, err := t.Bytes()
		if err != nil {
			return nil, nil, err
		}
		b = appendString(b, t.Name)
		b = le.AppendUint32(b, uint32(len(t.Shape)))
		for i := len(t.Shape) - 1; i >= 0; i-- {
			b = le.AppendUint64(b, uint64(t.Shape[i]))
		}
		b = le.AppendUint32(b, uint32(t.Type))
		b = le.AppendUint64(b, uint64(at))
		sizes = append(sizes, size)
		at += align(size)
	}
	return append(b, make([]byte, align(int64(len(b)))-int64(len(b)))...), sizes, nil
}

func align(n int64) int64 { return (n + alignment - 1) / alignment * alignment }

// advance pads the tensor that is complete and steps to the next with any data.
func (w *Writer) advance() error {
	for w.left == 0 && w.next < len(w.tensors) {
		if w.next >= 0 {
			size := w.sizes[w.next]
			if _, err := w.file.Write(make([]byte, align(size)-size)); err != nil {
				w.err = fmt.Errorf("gguf: write %s: %w", w.path, err)
				return w.err
			}
		}
		w.next++
		if w.next < len(w.tensors) {
			w.left = w.sizes[w.next]
		}
	}
	return nil
}

// Write appends to the data of the tensor that is being written, which p may not
// cross.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.done {
		return 0, errors.New("gguf: write after Close")
	}
	if int64(len(p)) > w.left {
		w.err = fmt.Errorf("gguf: write %s: %d bytes more than described", w.path, int64(len(p))-w.left)
		return 0, w.err
	}
	if n, err := w.file.Write(p); err != nil {
		w.err = fmt.Errorf("gguf: write %s: %w", w.path, err)
		return n, w.err
	}
	w.left -= int64(len(p))
	return len(p), w.advance()
}

// Close completes the file. If data are missing or a write has failed nothing
// appears under the name.
func (w *Writer) Close() error {
	if w.done {
		return w.err
	}
	if w.err == nil && w.next < len(w.tensors) {
		w.err = fmt.Errorf("gguf: write %s: tensor %q lacks %d bytes", w.path, w.tensors[w.next].Name, w.left)
	}
	if w.err == nil {
		w.done = true
		if err := w.file.Commit(); err != nil {
			w.err = fmt.Errorf("gguf: write %s: %w", w.path, err)
		}
	}
	w.Abort()
	return w.err
}

// Abort gives the file up. After Close it does nothing, so that it can be deferred.
func (w *Writer) Abort() {
	if w.done {
		return
	}
	w.done = true
	w.file.Abort()
	if w.err == nil {
		w.err = fmt.Errorf("gguf: write %s: aborted", w.path)
	}
}
