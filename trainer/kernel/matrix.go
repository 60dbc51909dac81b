package kernel

import "fmt"

// Matrix is a strided view of float32, bfloat16 or quantized values. The zero value is
// empty.
type Matrix struct {
	f32        []float32
	bf16       []uint16
	q          *Quantized
	turned     bool // of q: this view is transposed
	rows, cols int
	rs, cs     int // distance between rows and between columns, in elements
}

// F32 views row-major data of shape [rows, cols].
func F32(data []float32, rows, cols int) Matrix { return F32Stride(data, rows, cols, cols) }

// F32Stride views row-major data whose rows begin stride elements apart.
func F32Stride(data []float32, rows, cols, stride int) Matrix {
	mustHold(len(data), rows, cols, stride)
	return Matrix{f32: data, rows: rows, cols: cols, rs: stride, cs: 1}
}

// BF16 views row-major bfloat16 bits of shape [rows, cols]. Such matrices can
// be the right-hand operand of a product.
func BF16(data []uint16, rows, cols int) Matrix {
	mustHold(len(data), rows, cols, cols)
	return Matrix{bf16: data, rows: rows, cols: cols, rs: cols, cs: 1}
}

// T returns the transposed view.
func (m Matrix) T() Matrix {
	m.rows, m.cols = m.cols, m.rows
	m.rs, m.cs = m.cs, m.rs
	m.turned = !m.turned
	return m
}

// mustHold guards the assembly against slices shorter than their shape: a wrong
// shape is a programming error, found here rather than as stray memory access.
func mustHold(n, rows, cols, stride int) {
	if rows < 0 || cols < 0 || stride < cols || (rows > 0 && cols > 0 && n < (rows-1)*stride+cols) {
		panic(fmt.Sprintf("kernel: %d values cannot hold a %dx%d matrix with stride %d", n, rows, cols, stride))
	}
}
