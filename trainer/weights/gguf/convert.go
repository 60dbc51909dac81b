package gguf

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"runtime"
	"sync"

	"github.com/tunemesh/tunemesh/trainer/weights"
)

// batchValues is how many values are converted between two writes (8 MB of float32 at
// most, of which two are in memory): enough that cores are busy, little beside any
// model's tensor.
const batchValues = 2 << 20

// write converts one tensor and writes it, some rows at a time, over all cores; while
// one batch is written, the next is converted. The bytes do not depend on how many
// cores there are.
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
	_, elems, size, _ := j.info.Type.layout()
	if j.literal != nil {
		out := make([]byte, int64(len(j.literal))/elems*size)
		if err := Quantize(out, j.info.Type, j.literal); err != nil {
			return err
		}
		_, err := w.Write(out)
		return err
	}
	dtype, _, data, err := src.Tensor(j.source)
	if err != nil {
		return err
	}
	if rows == 0 || len(data)%rows != 0 {
		return fmt.Errorf("tensor %s: %d bytes in %d rows", j.source, len(data), rows)
	}
	c := converter{job: j, dtype: dtype, data: data, rows: rows, cols: cols, width: int(int64(cols) / elems * size)}
	perBatch := max(1, min(rows, batchValues/max(1, cols)))
	buffers := [2][]byte{make([]byte, perBatch*c.width), make([]byte, min(rows-perBatch, perBatch)*c.width)}
	written := make(chan error, 1)
	written <- nil // of the batch before the first
	for first, k := 0, 0; first < rows; first, k = first+perBatch, 1-k {
		n := min(perBatch, rows-first)
		batch := buffers[k][:n*c.width]
		failed := ctx.Err()
		if failed == nil {
			failed = c.convert(batch, first)
		}
		if err := cmp.Or(failed, <-written); err != nil { // always waits for the write
			return err
		}
		go func() {
			_, err := w.Write(batch)
			written <- err
		}()
	}
	return <-written
}

// converter encodes rows of one tensor.
type converter struct {
	job
	dtype      string
	data       []byte
	rows, cols int
	width      int // bytes of an encoded row
}

// convert fills out with the rows from first on, cut evenly among the cores.
func (c converter) convert(out []byte, first int) error {
	n := len(out) / max(1, c.width)
	workers := min(runtime.GOMAXPROCS(0), n, 1+n*c.cols/(1<<16)) // small ones are not worth a goroutine
	if workers <= 1 {
		return c.part(out, first)
	}
	errs := make([]error, workers)
	var wait sync.WaitGroup
	for k := range workers {
		from, to := k*n/workers, (k+1)*n/workers
		wait.Go(func() { errs[k] = c.part(out[from*c.width:to*c.width], first+from) })
	}
	wait.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func (c converter) part(out []byte, first int) error {
	values := make([]float32, c.cols)
	stride := len(c.data) / c.rows
	for r := first; len(out) > 0; r, out = r+1, out[c.width:] {
		from := r
		if c.heads > 0 {
			from = permutedRow(r, c.rows, c.heads)
		}
		if err := weights.ToF32(values, c.dtype, c.data[from*stride:(from+1)*stride]); err != nil {
			return fmt.Errorf("tensor %s: %w", c.source, err)
		}
		if c.plus != 0 {
			for i := range values {
				values[i] += c.plus
			}
		}
		if err := Quantize(out[:c.width], c.info.Type, values); err != nil {
			return fmt.Errorf("tensor %s, row %d: %w", c.source, from, err)
		}
	}
	return nil
}
