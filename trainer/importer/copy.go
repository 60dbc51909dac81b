package importer

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/tunemesh/tunemesh/trainer/weights"
)

// pieceValues is how many values are looked at and written at a time.
const pieceValues = 1 << 18

// copyWeights writes one safetensors file with the tensors as they are, or in the
// format that opts asks for; vectors always stay as they are.
func copyWeights(ctx context.Context, src *weights.File, path string, infos []weights.TensorInfo, opts Options, d *Description) error {
	target := make([]weights.TensorInfo, len(infos))
	rounded := false
	var total, done int64
	for i, info := range infos {
		target[i] = info
		if opts.DType != "" && len(info.Shape) > 1 && info.DType != opts.DType {
			target[i].DType = opts.DType
			rounded = rounded || opts.DType != weights.F32
		}
		n, err := info.Bytes()
		if err != nil {
			return err
		}
		total += n
	}
	if rounded {
		d.Notes = append(d.Notes, fmt.Sprintf("the matrices are rounded from %s to %s", d.SourceDType, opts.DType))
	}
	w, err := weights.NewWriter(path, target, src.Metadata())
	if err != nil {
		return err
	}
	defer w.Abort()
	c := converter{ctx: ctx, w: w}
	for i, info := range infos {
		_, _, data, err := src.Tensor(info.Name)
		if err != nil {
			return err
		}
		if err := c.copy(data, info.DType, target[i].DType); err != nil {
			return fmt.Errorf("tensor %s: %w", info.Name, err)
		}
		if done += int64(len(data)); opts.Progress != nil {
			opts.Progress(done, total)
		}
	}
	return w.Close()
}

// converter copies numbers and refuses those that no model computes with.
type converter struct {
	ctx    context.Context
	w      io.Writer
	values []float32
	out    []byte
}

func (c *converter) copy(data []byte, from, to string) error {
	size := width(from)
	for len(data) > 0 {
		if err := c.ctx.Err(); err != nil {
			return err
		}
		piece := data[:min(len(data), pieceValues*size)]
		data = data[len(piece):]
		if err := finite(piece, from); err != nil {
			return err
		}
		if from != to {
			n := len(piece) / size
			if c.values == nil {
				c.values, c.out = make([]float32, pieceValues), make([]byte, 4*pieceValues)
			}
			if err := weights.ToF32(c.values[:n], from, piece); err != nil {
				return err
			}
			piece = c.out[:n*width(to)]
			if err := weights.FromF32(piece, to, c.values[:n]); err != nil {
				return err
			}
			if err := finite(piece, to); err != nil {
				return fmt.Errorf("a weight is too large for %s; choose another --dtype, F32 takes all", to)
			}
		}
		if _, err := c.w.Write(piece); err != nil {
			return err
		}
	}
	return nil
}

func width(dtype string) int {
	if dtype == weights.F32 {
		return 4
	}
	return 2
}

// finite looks for exponents of all ones: infinities and NaN.
func finite(data []byte, dtype string) error {
	damaged := errors.New("a weight is infinite or not a number: the file is damaged, or the training that made it diverged; fetch or copy it again, or choose another model")
	if dtype == weights.F32 {
		for ; len(data) >= 4; data = data[4:] {
			if binary.LittleEndian.Uint32(data)&0x7f800000 == 0x7f800000 {
				return damaged
			}
		}
		return nil
	}
	mask := uint16(0x7c00)
	if dtype == weights.BF16 {
		mask = uint16(math.Float32bits(float32(math.Inf(1))) >> 16)
	}
	for ; len(data) >= 2; data = data[2:] {
		if binary.LittleEndian.Uint16(data)&mask == mask {
			return damaged
		}
	}
	return nil
}

// hashFiles lists the folder's files by name.
func hashFiles(ctx context.Context, dir string) ([]File, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	var out []File
	for _, e := range entries {
		f, err := hashFile(ctx, filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, f)
	}
	slices.SortFunc(out, func(a, b File) int {
		if a.Name < b.Name {
			return -1
		}
		return 1
	})
	return out, nil
}

func hashFile(ctx context.Context, path string) (File, error) {
	f, err := os.Open(path)
	if err != nil {
		return File{}, err
	}
	defer f.Close()
	sum := sha256.New()
	out := File{Name: filepath.Base(path)}
	buf := make([]byte, 1<<20)
	for {
		if err := ctx.Err(); err != nil {
			return out, err
		}
		n, err := f.Read(buf)
		sum.Write(buf[:n])
		out.Size += int64(n)
		if err == io.EOF {
			out.SHA256 = hex.EncodeToString(sum.Sum(nil))
			return out, nil
		}
		if err != nil {
			return out, err
		}
	}
}
