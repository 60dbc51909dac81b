package gguf

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"slices"

	"github.com/tunemesh/tunemesh/trainer/weights"
)

// job is one tensor of an export: where it comes from and what it becomes.
type job struct {
	info    TensorInfo
	source  string    // the tensor's name in the safetensors
	heads   int       // > 0: its rows are permuted, in this many heads
	literal []float32 // instead of a source
}

// jobs lists the tensors in llama.cpp's order of names, each checked against the
// config.
func (c llamaConfig) jobs(src *weights.File, matrices Type) ([]job, error) {
	var out []job
	var firstErr error
	used := map[string]bool{}
	add := func(name, source string, heads int, optional bool, shape ...int) {
		info, ok := src.Info(source)
		used[source] = true
		switch {
		case firstErr != nil || !ok && optional:
			return
		case !ok:
			firstErr = fmt.Errorf("tensor %s is missing", source)
			return
		case !slices.Equal(info.Shape, shape):
			firstErr = fmt.Errorf("tensor %s has shape %v, but config.json asks for %v", source, info.Shape, shape)
			return
		}
		out = append(out, job{info: TensorInfo{Name: name, Type: typeFor(shape, matrices), Shape: shape}, source: source, heads: heads})
	}
	add("token_embd.weight", "model.embed_tokens.weight", 0, false, c.VocabSize, c.HiddenSize)
	if f := c.ropeFactors(); f != nil {
		out = append(out, job{info: TensorInfo{Name: "rope_freqs.weight", Type: F32, Shape: []int{len(f)}}, literal: f})
	}
	for l := range c.Layers {
		blk, from := fmt.Sprintf("blk.%d.", l), fmt.Sprintf("model.layers.%d.", l)
		add(blk+"attn_norm.weight", from+"input_layernorm.weight", 0, false, c.HiddenSize)
		for _, p := range c.projections() {
			add(blk+p.name+".weight", from+p.source+".weight", p.heads, false, p.out, p.in)
			add(blk+p.name+".bias", from+p.source+".bias", p.heads, true, p.out)
		}
		add(blk+"ffn_norm.weight", from+"post_attention_layernorm.weight", 0, false, c.HiddenSize)
		used[from+"self_attn.rotary_emb.inv_freq"] = true // a table that llama.cpp computes
	}
	add("output_norm.weight", "model.norm.weight", 0, false, c.HiddenSize)
	if !c.Tied {
		add("output.weight", "lm_head.weight", 0, false, c.VocabSize, c.HiddenSize)
	}
	used["lm_head.weight"] = true // of a tied model, the embedding once more
	if firstErr != nil {
		return nil, firstErr
	}
	for _, name := range src.Names() {
		if !used[name] {
			return nil, fmt.Errorf("tensor %s has no place in llama.cpp's architecture llama", name)
		}
	}
	return out, nil
}

// projection is one of a block's linear layers: its name here and there, the heads in
// which its rows are permuted (0: not at all) and its dimensions.
type projection struct {
	name, source string
	heads        int
	out, in      int
}

func (c llamaConfig) projections() []projection {
	q, kv := c.Heads*c.HeadDim, c.KVHeads*c.HeadDim
	return []projection{
		{"attn_q", "self_attn.q_proj", c.Heads, q, c.HiddenSize},
		{"attn_k", "self_attn.k_proj", c.KVHeads, kv, c.HiddenSize},
		{"attn_v", "self_attn.v_proj", 0, kv, c.HiddenSize},
		{"attn_output", "self_attn.o_proj", 0, c.HiddenSize, q},
		{"ffn_gate", "mlp.gate_proj", 0, c.IntermediateSize, c.HiddenSize},
		{"ffn_up", "mlp.up_proj", 0, c.IntermediateSize, c.HiddenSize},
		{"ffn_down", "mlp.down_proj", 0, c.HiddenSize, c.IntermediateSize},
	}
}

// typeFor keeps vectors in F32, as llama.cpp needs them, and a matrix whose rows
// do not fill blocks in F16.
func typeFor(shape []int, matrices Type) Type {
	if len(shape) < 2 {
		return F32
	}
	if _, elems, _, _ := matrices.layout(); int64(shape[len(shape)-1])%elems != 0 {
		return F16
	}
	return matrices
}

// permutedRow gives the row of a Hugging Face q or k projection that stands at row
// out in llama.cpp's. Hugging Face rotates dimension j of a head with j + dim/2,
// llama.cpp's llama architecture 2j with 2j+1 (permute in llama.cpp's
// conversion/llama.py).
func permutedRow(out, rows, heads int) int {
	dim := rows / heads
	head, j := out/dim, out%dim
	return head*dim + j%2*(dim/2) + j/2
}

// write converts one tensor and writes it, some rows at a time.
func (j job) write(ctx context.Context, w io.Writer, src *weights.File) error {
	shape := j.info.Shape
	cols := shape[len(shape)-1]
	rows := 1
	if len(shape) == 2 {
		rows = shape[0]
	}
	if j.heads > 0 && len(shape) == 1 { // a bias is a column
		rows, cols = shape[0], 1
	}
	values := make([]float32, cols)
	var out []byte
	if j.literal != nil {
		copy(values, j.literal)
		out, err := encode(nil, j.info.Type, values)
		if err != nil {
			return err
		}
		_, err = w.Write(out)
		return err
	}
	dtype, _, data, err := src.Tensor(j.source)
	if err != nil {
		return err
	}
	if rows == 0 || len(data)%rows != 0 {
		return fmt.Errorf("tensor %s: %d bytes in %d rows", j.source, len(data), rows)
	}
	stride := len(data) / rows
	for r := range rows {
		from := r
		if j.heads > 0 {
			from = permutedRow(r, rows, j.heads)
		}
		if err := weights.ToF32(values, dtype, data[from*stride:(from+1)*stride]); err != nil {
			return fmt.Errorf("tensor %s: %w", j.source, err)
		}
		if out, err = encode(out, j.info.Type, values); err != nil {
			return fmt.Errorf("tensor %s, row %d: %w", j.source, from, err)
		}
		if len(out) >= 1<<20 || r == rows-1 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if _, err := w.Write(out); err != nil {
				return err
			}
			out = out[:0]
		}
	}
	return nil
}

// encode appends values in the format t.
func encode(out []byte, t Type, values []float32) ([]byte, error) {
	le := binary.LittleEndian
	switch t {
	case F32:
		for _, v := range values {
			out = le.AppendUint32(out, math.Float32bits(v))
		}
	case F16:
		for _, v := range values {
			h := weights.F32ToF16(v)
			if h&0x7fff == 0x7c00 && !math.IsInf(float64(v), 0) {
				return nil, fmt.Errorf("%g is too large for F16; export as BF16", v)
			}
			out = le.AppendUint16(out, h)
		}
	case BF16:
		for _, v := range values {
			out = le.AppendUint16(out, weights.F32ToBF16(v))
		}
	case Q8_0:
		return appendQ8(out, values)
	default:
		return nil, fmt.Errorf("%s is not written", t)
	}
	return out, nil
}

// appendQ8 quantizes blocks of 32 values to a half-precision scale d and 32 signed
// bytes q; a value is d*q (quantize_row_q8_0_ref in ggml-quants.c, bit for bit: the
// quotient uses the scale before it is rounded to half, ties go away from zero).
func appendQ8(out []byte, values []float32) ([]byte, error) {
	for len(values) > 0 {
		block := values[:32]
		values = values[32:]
		largest := float32(0)
		for _, v := range block {
			largest = max(largest, float32(math.Abs(float64(v)))) // of a NaN, NaN
		}
		d := largest / 127
		scale := weights.F32ToF16(d)
		if !(largest <= math.MaxFloat32) || scale == 0x7c00 {
			return nil, fmt.Errorf("a value of %g cannot be quantized to Q8_0", largest)
		}
		inverse := 1 / d
		if math.IsInf(float64(inverse), 0) {
			inverse = 0 // a block of zeros, or of values too small for any scale
		}
		out = binary.LittleEndian.AppendUint16(out, scale)
		for _, v := range block {
			out = append(out, byte(int8(math.Round(float64(v*inverse)))))
		}
	}
	return out, nil
}
