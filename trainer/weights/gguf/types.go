package gguf

import (
	"fmt"
	"math"
)

// Type is a number format of tensors (ggml_type).
type Type uint32

// The formats that Dequantize decodes, under their own names. F32, F16, BF16, Q8_0,
// Q6_K, Q5_0 and Q4_K are written too; others than these are read as opaque bytes.
const (
	F32  Type = 0
	F16  Type = 1
	Q4_0 Type = 2
	Q4_1 Type = 3
	Q5_0 Type = 6
	Q5_1 Type = 7
	Q8_0 Type = 8
	Q4_K Type = 12
	Q5_K Type = 13
	Q6_K Type = 14
	BF16 Type = 30
)

// layout gives a format's name, the elements in a block and the bytes of one
// (ggml.c, type_traits; block structures in ggml-common.h).
func (t Type) layout() (name string, elems, bytes int64, ok bool) {
	switch t {
	case F32:
		return "F32", 1, 4, true
	case F16:
		return "F16", 1, 2, true
	case Q4_0:
		return "Q4_0", 32, 18, true
	case Q4_1:
		return "Q4_1", 32, 20, true
	case Q5_0:
		return "Q5_0", 32, 22, true
	case Q5_1:
		return "Q5_1", 32, 24, true
	case Q8_0:
		return "Q8_0", 32, 34, true
	case 10:
		return "Q2_K", 256, 84, true
	case 11:
		return "Q3_K", 256, 110, true
	case Q4_K:
		return "Q4_K", 256, 144, true
	case Q5_K:
		return "Q5_K", 256, 176, true
	case Q6_K:
		return "Q6_K", 256, 210, true
	case 24:
		return "I8", 1, 1, true
	case 25:
		return "I16", 1, 2, true
	case 26:
		return "I32", 1, 4, true
	case 27:
		return "I64", 1, 8, true
	case 28:
		return "F64", 1, 8, true
	case BF16:
		return "BF16", 1, 2, true
	}
	return "", 0, 0, false
}

// String is the name as llama.cpp spells it.
func (t Type) String() string {
	if name, _, _, ok := t.layout(); ok {
		return name
	}
	return fmt.Sprintf("type %d", uint32(t))
}

// TensorInfo describes one tensor. Shape is outermost dimension first, as in
// safetensors; the file has the reverse. Offset counts from the beginning of the
// data; a Writer sets it itself.
type TensorInfo struct {
	Name   string
	Type   Type
	Shape  []int
	Offset int64
}

// maxDims is GGML_MAX_DIMS.
const maxDims = 4

// Bytes is the size of the tensor's data.
func (t TensorInfo) Bytes() (int64, error) {
	_, elems, bytes, ok := t.Type.layout()
	if !ok {
		return 0, fmt.Errorf("tensor %q: unknown %s", t.Name, t.Type)
	}
	if len(t.Shape) == 0 || len(t.Shape) > maxDims {
		return 0, fmt.Errorf("tensor %q: %d dimensions, want 1 to %d", t.Name, len(t.Shape), maxDims)
	}
	row := int64(t.Shape[len(t.Shape)-1])
	if row < 0 || row%elems != 0 {
		return 0, fmt.Errorf("tensor %q: rows of %d do not fill blocks of %d (%s)", t.Name, row, elems, t.Type)
	}
	n := row / elems * bytes
	for _, d := range t.Shape[:len(t.Shape)-1] {
		if d < 0 || d > 0 && n > math.MaxInt64/4/int64(d) {
			return 0, fmt.Errorf("tensor %q: impossible shape %v", t.Name, t.Shape)
		}
		n *= int64(d)
	}
	return n, nil
}
