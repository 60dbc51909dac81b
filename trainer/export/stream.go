package export

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// batchBytes is how much of a tensor is merged between two writes.
const batchBytes = 8 << 20

// writeWeights streams the merged tensors to dir, some rows in memory at a time, each
// in the format that the base model has it in: what no adapter changes keeps its bits.
func (l layout) writeWeights(ctx context.Context, src *tuned.Stream, dir string, done func(bytes int64)) error {
	w, err := weights.NewWriter(filepath.Join(dir, weights.SingleName), l.tensors, nil)
	if err != nil {
		return fmt.Errorf("export: merged weights: %w", err)
	}
	defer w.Abort()
	written := int64(0)
	for _, t := range l.tensors {
		if err := writeTensor(ctx, w, src, t); err != nil {
			return fmt.Errorf("export: merged weights: %s: %w", t.Name, err)
		}
		src.Files.Release(t.Name)
		n, _ := t.Bytes() // known to be good from plan
		written += n
		done(written)
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("export: merged weights: %w", err)
	}
	return nil
}

func writeTensor(ctx context.Context, w *weights.Writer, src *tuned.Stream, t weights.TensorInfo) error {
	dtype, _, data, err := src.Files.Tensor(t.Name)
	if err != nil {
		return err
	}
	if dtype != t.DType {
		return fmt.Errorf("it is %s now, and was %s when the export was planned", dtype, t.DType)
	}
	rows, cols := 1, t.Shape[len(t.Shape)-1]
	for _, d := range t.Shape[:len(t.Shape)-1] {
		rows *= d
	}
	if rows == 0 || cols == 0 {
		return nil
	}
	stride := len(data) / rows
	step := max(1, batchBytes/stride)
	merged := src.Adapts(t.Name)
	var out []byte
	if merged {
		out = make([]byte, min(step, rows)*stride)
	}
	for first := 0; first < rows; first += step {
		if err := ctx.Err(); err != nil {
			return err
		}
		part := data[first*stride : min(first+step, rows)*stride]
		if merged {
			if err := merge(src, t, out[:len(part)], part, first, cols); err != nil {
				return err
			}
			part = out[:len(part)]
		}
		if _, err := w.Write(part); err != nil {
			return err
		}
	}
	return nil
}

// merge adds the adapter to some rows of a tensor, from data to out, over all cores.
func merge(src *tuned.Stream, t weights.TensorInfo, out, data []byte, first, cols int) error {
	rows, err := t.Bytes()
	if err != nil {
		return err
	}
	stride := int(rows) / t.Shape[0]
	n := len(data) / stride
	workers := min(runtime.GOMAXPROCS(0), n)
	errs := make([]error, workers)
	var wait sync.WaitGroup
	for k := range workers {
		wait.Go(func() {
			values := make([]float32, cols)
			for r := k * n / workers; r < (k+1)*n/workers; r++ {
				err := weights.ToF32(values, t.DType, data[r*stride:(r+1)*stride])
				if err == nil {
					src.AddAdapter(t.Name, values, first+r)
					err = weights.FromF32(out[r*stride:(r+1)*stride], t.DType, values)
				}
				if err != nil {
					errs[k] = fmt.Errorf("row %d: %w", first+r, err)
					return
				}
			}
		})
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
