package model

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"unsafe"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

// Source gives a checkpoint's tensors; trainer/weights has one over mapped
// safetensors files.
type Source interface {
	// Names lists the tensors there are.
	Names() []string
	// Tensor returns one tensor: its dtype as safetensors spells it ("F32",
	// "F16", "BF16"), its shape, and its little-endian bytes. The model may keep
	// the bytes, so they must stay valid and unchanged for as long as it lives.
	Tensor(name string) (dtype string, shape []int, data []byte, err error)
}

// weights holds one tensor as float32, as bfloat16 bits or quantized; exactly one
// is non-nil.
type weights struct {
	f32  []float32
	bf16 []uint16
	q    *kernel.Quantized
}

func (w weights) len() int {
	if w.q != nil {
		return w.q.Len()
	}
	return max(len(w.f32), len(w.bf16))
}

// float32s returns the values as float32: the tensor's own slice if it is
// float32 already.
func (w weights) float32s() []float32 {
	if w.f32 != nil {
		return w.f32
	}
	if w.q != nil {
		return decodeRows(w.q)
	}
	out := make([]float32, len(w.bf16))
	for i, b := range w.bf16 {
		out[i] = math.Float32frombits(uint32(b) << 16)
	}
	return out
}

// readTensor fetches one tensor and checks it against what the config asks for.
// BF16 stays as it is (in place if the bytes are aligned); F16 becomes float32,
// since bfloat16 could not hold its mantissa.
func readTensor(src Source, spec TensorSpec) (weights, error) {
	dtype, shape, data, err := src.Tensor(spec.Name)
	if err != nil {
		return weights{}, fmt.Errorf("model: tensor %s: %w", spec.Name, err)
	}
	if !slices.Equal(shape, spec.Shape) {
		return weights{}, fmt.Errorf("model: tensor %s has shape %v, but config.json asks for %v", spec.Name, shape, spec.Shape)
	}
	size, ok := map[string]int{"F32": 4, "F16": 2, "BF16": 2}[dtype]
	if !ok {
		return weights{}, fmt.Errorf("model: tensor %s has dtype %s; the native engine reads F32, F16 and BF16", spec.Name, dtype)
	}
	n := spec.Len()
	if len(data) != n*size {
		return weights{}, fmt.Errorf("model: tensor %s holds %d bytes, but %v of %s needs %d", spec.Name, len(data), shape, dtype, n*size)
	}
	switch dtype {
	case "BF16":
		return weights{bf16: alias16(data)}, nil
	case "F32":
		out := make([]float32, n)
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(data[4*i:]))
		}
		return weights{f32: out}, nil
	}
	out := make([]float32, n)
	for i := range out {
		out[i] = fromHalf(binary.LittleEndian.Uint16(data[2*i:]))
	}
	return weights{f32: out}, nil
}

// alias16 views the bytes as uint16 without a copy where alignment and byte
// order allow it, so that mapped weights cost no memory of their own.
func alias16(data []byte) []uint16 {
	n := len(data) / 2
	little := binary.NativeEndian.Uint16([]byte{1, 0}) == 1
	if p := unsafe.Pointer(unsafe.SliceData(data)); little && uintptr(p)%2 == 0 {
		return unsafe.Slice((*uint16)(p), n)
	}
	out := make([]uint16, n)
	for i := range out {
		out[i] = binary.LittleEndian.Uint16(data[2*i:])
	}
	return out
}

// fromHalf converts IEEE 754 binary16, exactly.
func fromHalf(h uint16) float32 {
	sign := uint32(h>>15) << 31
	exp, frac := uint32(h>>10)&31, uint32(h)&1023
	switch exp {
	case 0:
		v := float32(frac) / (1 << 24)
		return math.Float32frombits(math.Float32bits(v) | sign)
	case 31:
		return math.Float32frombits(sign | 0xff<<23 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}
