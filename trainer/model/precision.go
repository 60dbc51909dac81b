package model

import (
	"math"
	"runtime"
	"strings"
	"sync"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

// Precision is how the weights of the base lie in memory. Arithmetic is float32
// but for what SetRounding changes.
type Precision string

// The precisions. Int8 and Int4 hold the linear layers as codes in blocks of 32
// with a scale each (kernel.Quantized), and embedding and head as bfloat16:
// adapters can be trained on such a base (the idea of QLoRA, Dettmers et al.,
// arXiv 2305.14314), the base itself cannot.
const (
	Stored Precision = ""     // BF16 as mapped; F32, and F16 whose fraction BF16 could not hold, as F32
	F32    Precision = "f32"  // 4 bytes
	BF16   Precision = "bf16" // 2 bytes; wider weights are rounded to nearest, ties to even
	Int8   Precision = "int8" // 9 bits
	Int4   Precision = "int4" // 5 bits
)

// Q8 holds every matrix, embedding and head too, as 8-bit codes, and a Session rounds
// what it multiplies with them to 8 bits as well (kernel.Quantized.SetIntegers), as
// llama.cpp does with a Q8_0 file: half the bytes of BF16 to read for a token. It is for
// inference; training knows the others.
const Q8 Precision = "q8"

// Releaser is a Source that wants to know when the bytes of a tensor are no
// longer needed, so that pages of a mapped file need not stay in memory.
type Releaser interface{ Release(name string) }

// aliases says whether w is the very slice that readTensor made, which may be
// the source's.
func (w weights) aliases(read weights) bool {
	return len(w.bf16) > 0 && len(read.bf16) > 0 && &w.bf16[0] == &read.bf16[0]
}

// convert brings one tensor to the precision. Gains of norms stay float32 or as
// they are stored: build widens them.
func (p Precision) convert(spec TensorSpec, w weights, slab *kernel.Slab) weights {
	if p == Stored || len(spec.Shape) != 2 {
		return w
	}
	codes := func(bits int) weights {
		return weights{q: quantize(kernel.NewQuantized(bits, spec.Shape[0], spec.Shape[1]), w)}
	}
	linear := strings.HasSuffix(spec.Name, "_proj.weight")
	switch {
	case p == F32:
		return weights{f32: w.float32s()}
	case p == Int8 && linear:
		return codes(8)
	case p == Int4 && linear:
		return codes(4)
	case p == Q8:
		q := slab.Quantized(8, spec.Shape[0], spec.Shape[1])
		q.SetIntegers()
		return weights{q: quantize(q, w)}
	case w.bf16 != nil:
		return w
	}
	out := make([]uint16, len(w.f32))
	for i, v := range w.f32 {
		out[i] = toBF16(v)
	}
	return weights{bf16: out}
}

// toBF16 rounds to the nearest bfloat16, ties to even; NaN stays NaN.
func toBF16(v float32) uint16 {
	b := math.Float32bits(v)
	if v != v {
		return uint16(b>>16) | 1<<6
	}
	return uint16((b + 0x7fff + b>>16&1) >> 16)
}

// quantize encodes the rows of a matrix on all processors; what each writes
// depends on its row only.
func quantize(q *kernel.Quantized, w weights) *kernel.Quantized {
	rows, cols := q.Shape()
	workers := runtime.GOMAXPROCS(0)
	var wg sync.WaitGroup
	for worker := range workers {
		wg.Go(func() {
			row := make([]float32, cols)
			for r := worker; r < rows; r += workers {
				if w.f32 != nil {
					q.SetRow(r, w.f32[r*cols:(r+1)*cols])
					continue
				}
				for i, b := range w.bf16[r*cols : (r+1)*cols] {
					row[i] = math.Float32frombits(uint32(b) << 16)
				}
				q.SetRow(r, row)
			}
		})
	}
	wg.Wait()
	return q
}

// decodeRows is the matrix that the codes stand for.
func decodeRows(q *kernel.Quantized) []float32 {
	rows, cols := q.Shape()
	out := make([]float32, rows*cols)
	for r := range rows {
		q.Row(out[r*cols:(r+1)*cols], r)
	}
	return out
}
