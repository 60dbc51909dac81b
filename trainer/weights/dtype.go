package weights

import "fmt"

// Number formats as safetensors spells them. Other spellings of the format
// (I64, U8, BOOL, F8_E4M3, ...) are read and written as opaque bytes.
const (
	F32  = "F32"
	F16  = "F16"
	BF16 = "BF16"
)

// dtypeBits is the width of one element in bits for every dtype that a
// safetensors header may name. The sub-byte formats pack elements, so a tensor of
// them has to fill whole bytes.
func dtypeBits(dtype string) (int, bool) {
	switch dtype {
	case "F4":
		return 4, true
	case "F6_E2M3", "F6_E3M2":
		return 6, true
	case "BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ":
		return 8, true
	case "I16", "U16", F16, BF16:
		return 16, true
	case "I32", "U32", F32:
		return 32, true
	case "I64", "U64", "F64", "C64":
		return 64, true
	}
	return 0, false
}

// TensorInfo describes one tensor: its name, its number format and its shape,
// outermost dimension first (row-major). A shape of no dimensions is a scalar.
type TensorInfo struct {
	Name  string
	DType string
	Shape []int
}

// Bytes is the size of the tensor's data, or an error if the dtype is unknown, a
// dimension is negative or the product does not fit.
func (t TensorInfo) Bytes() (int64, error) {
	bits, ok := dtypeBits(t.DType)
	if !ok {
		return 0, fmt.Errorf("tensor %q: unknown dtype %q", t.Name, t.DType)
	}
	n := int64(1)
	const limit = int64(1) << 56 // leaves room to multiply by the bits below
	for _, d := range t.Shape {
		if d < 0 {
			return 0, fmt.Errorf("tensor %q: negative dimension in shape %v", t.Name, t.Shape)
		}
		if d > 0 && n > limit/int64(d) {
			return 0, fmt.Errorf("tensor %q: shape %v overflows", t.Name, t.Shape)
		}
		n *= int64(d)
	}
	if n*int64(bits)%8 != 0 {
		return 0, fmt.Errorf("tensor %q: shape %v of %s does not fill whole bytes", t.Name, t.Shape, t.DType)
	}
	return n * int64(bits) / 8, nil
}
