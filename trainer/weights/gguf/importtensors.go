package gguf

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/weights"
)

// importJob is one tensor of an import: where it comes from and what it is called.
type importJob struct {
	info   TensorInfo
	target string
	heads  int // > 0: its rows are permuted, in this many heads
	minus  float32
}

// imports lists the tensors under Hugging Face's names, each checked against the
// metadata. A tensor that the architecture has no place for is refused.
func (c modelConfig) imports(f *File) ([]importJob, error) {
	var out []importJob
	var faults []string
	used := map[string]bool{ropeTensor: true}
	add := func(name, target string, heads int, shape ...int) {
		info, ok := f.Tensor(name)
		used[name] = true
		switch {
		case !ok:
			faults = append(faults, fmt.Sprintf("tensor %s is missing", name))
		case !info.Type.Decodes():
			faults = append(faults, fmt.Sprintf("tensor %s is %s, which is not decoded: quantize the model in another format", name, info.Type))
		case !slices.Equal(info.Shape, shape):
			faults = append(faults, fmt.Sprintf("tensor %s has shape %v, but the metadata ask for %v", name, info.Shape, shape))
		default:
			out = append(out, importJob{info: info, target: target, heads: heads})
		}
	}
	add(embedTensor, "model.embed_tokens.weight", 0, c.VocabSize, c.HiddenSize)
	norm := func(name, target string, size int) {
		before := len(out)
		if add(name, target, 0, size); len(out) > before && c.family.plusOne {
			out[before].minus = 1
		}
	}
	for l := range c.Layers {
		blk, to := fmt.Sprintf("blk.%d.", l), fmt.Sprintf("model.layers.%d.", l)
		// The order is that in which folders are imported, so that one model gives
		// one file, wherever it came from.
		of := func(n normName) { norm(blk+n.name+".weight", to+n.source+".weight", c.normSize(n)) }
		of(c.family.norms[0])
		for _, p := range c.projections() {
			add(blk+p.name+".weight", to+p.source+".weight", p.heads, p.out, p.in)
			if p.biased {
				add(blk+p.name+".bias", to+p.source+".bias", 0, p.out)
			}
		}
		for _, heads := range []bool{true, false} {
			for _, n := range c.family.norms[1:] {
				if n.ofHeads == heads {
					of(n)
				}
			}
		}
	}
	norm("output_norm.weight", "model.norm.weight", c.HiddenSize)
	if !c.Tied {
		add(headTensor, "lm_head.weight", 0, c.VocabSize, c.HiddenSize)
	}
	for _, t := range f.Tensors() {
		if !used[t.Name] && !strings.HasSuffix(t.Name, ".attn_rot_embd") { // a table of old files
			faults = append(faults, fmt.Sprintf("tensor %s has no place in %s", t.Name, c.family.hf))
		}
	}
	if len(faults) > maxFaults {
		faults = append(faults[:maxFaults], fmt.Sprintf("and %d more", len(faults)-maxFaults))
	}
	if len(faults) > 0 {
		return nil, fmt.Errorf("%s", strings.Join(faults, "; "))
	}
	return out, nil
}

// maxFaults bounds what one message lists.
const maxFaults = 5

const (
	embedTensor = "token_embd.weight"
	headTensor  = "output.weight"
	ropeTensor  = "rope_freqs.weight"
)

// importValues is about how many values are decoded at a time.
const importValues = 1 << 18

// writeImports writes the safetensors file.
func writeImports(ctx context.Context, f *File, path string, jobs []importJob, dtype string, progress func(done, total int64)) error {
	infos := make([]weights.TensorInfo, len(jobs))
	var total, done int64
	for i, j := range jobs {
		infos[i] = weights.TensorInfo{Name: j.target, DType: dtype, Shape: j.info.Shape}
		if len(j.info.Shape) < 2 {
			infos[i].DType = weights.F32
		}
		n, err := j.info.Bytes()
		if err != nil {
			return err
		}
		total += n
	}
	w, err := weights.NewWriter(path, infos, nil)
	if err != nil {
		return err
	}
	defer w.Abort()
	for i, j := range jobs {
		if err := j.write(ctx, f, w, infos[i].DType); err != nil {
			return fmt.Errorf("tensor %s: %w", j.info.Name, err)
		}
		n, _ := j.info.Bytes() // checked above
		if done += n; progress != nil {
			progress(done, total)
		}
	}
	return w.Close()
}

func (j importJob) write(ctx context.Context, f *File, w *weights.Writer, dtype string) error {
	rows, err := f.Rows(j.info.Name)
	if err != nil {
		return err
	}
	step := min(rows.Count, max(1, importValues/rows.Width))
	if j.heads > 0 {
		step = rows.Count / j.heads // a permutation stays within a head
	}
	width := 2
	if dtype == weights.F32 {
		width = 4
	}
	values, sorted := make([]float32, step*rows.Width), make([]float32, step*rows.Width)
	out := make([]byte, width*len(values))
	for first := 0; first < rows.Count; first += step {
		if err := ctx.Err(); err != nil {
			return err
		}
		n := min(step, rows.Count-first) * rows.Width
		values, out := values[:n], out[:width*n]
		if err := rows.Read(values, first); err != nil {
			return err
		}
		if j.heads > 0 {
			for r := range step {
				to := permutedRow(r, step, 1)
				copy(sorted[to*rows.Width:(to+1)*rows.Width], values[r*rows.Width:])
			}
			values = sorted
		}
		if j.minus != 0 {
			for i := range values {
				values[i] -= j.minus
			}
		}
		if err := finite(values, dtype); err != nil {
			return err
		}
		if err := weights.FromF32(out, dtype, values); err != nil {
			return err
		}
		if _, err := w.Write(out); err != nil {
			return err
		}
	}
	return nil
}

// finite refuses what no model computes with, and what only the new format cannot
// hold.
func finite(values []float32, dtype string) error {
	limit := float32(math.MaxFloat32)
	switch dtype {
	case weights.F16:
		limit = 65519 // from 65520 on it would be infinite
	case weights.BF16:
		limit = 3.3895e38
	}
	for _, v := range values {
		if v >= -limit && v <= limit {
			continue
		}
		if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
			return fmt.Errorf("a weight is %g: the file is damaged", v)
		}
		return fmt.Errorf("a weight of %g is too large for %s: import as F32", v, dtype)
	}
	return nil
}
