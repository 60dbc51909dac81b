package gguf

import (
	"context"
	"fmt"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/adapter"
)

// ExportAdapter writes the PEFT LoRA adapter in adapterDir, made for the base model
// in baseDir (of which config.json is read), to the file out as a GGUF adapter, which
// llama.cpp (--lora) and Ollama (ADAPTER) put over the base model's GGUF. Its
// matrices stay F32. Layout: llama.cpp's convert_lora_to_gguf.py.
func ExportAdapter(ctx context.Context, adapterDir, baseDir, out string) error {
	if err := exportAdapter(ctx, adapterDir, baseDir, out); err != nil {
		return fmt.Errorf("gguf: export adapter %s: %w", adapterDir, err)
	}
	return nil
}

func exportAdapter(ctx context.Context, adapterDir, baseDir, out string) error {
	config, err := readConfig(baseDir)
	if err != nil {
		return err
	}
	lora, tensors, err := adapter.Load(adapterDir)
	if err != nil {
		return err
	}
	matrices := make([]loraMatrix, len(tensors))
	for i, t := range tensors {
		if matrices[i], err = config.loraMatrix(t); err != nil {
			return err
		}
	}
	sort.Slice(matrices, func(i, j int) bool { return matrices[i].info.Name < matrices[j].info.Name })
	infos := make([]TensorInfo, len(matrices))
	for i, m := range matrices {
		infos[i] = m.info
	}
	name := filepath.Base(adapterDir)
	if abs, err := filepath.Abs(adapterDir); err == nil {
		name = filepath.Base(abs)
	}
	metadata := []KV{
		{"general.architecture", config.family.name},
		{"general.type", "adapter"},
		{"general.name", name},
		{"general.file_type", uint32(0)},
		{"adapter.type", "lora"},
		// llama.cpp scales by alpha/r; rank-stabilised adapters are scaled otherwise.
		{"adapter.lora.alpha", float32(lora.Scaling() * float64(lora.Rank))},
	}
	w, err := NewWriter(out, metadata, infos)
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, m := range matrices {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := m.write(w); err != nil {
			return err
		}
	}
	return w.Close()
}

// loraMatrix is one half of a pair: A [r, in] as it is, B [out, r] with the rows of
// q and k permuted like those of the weight that it is added to.
type loraMatrix struct {
	info   TensorInfo
	tensor adapter.Tensor
	heads  int
}

// loraMatrix finds the place of one matrix in llama.cpp's model.
func (c modelConfig) loraMatrix(t adapter.Tensor) (loraMatrix, error) {
	module, isB, ok := adapter.Module(t.Name)
	rest, layer, found := strings.TrimPrefix(module, "model.layers."), 0, false
	if ok && rest != module {
		if number, tail, cut := strings.Cut(rest, "."); cut {
			if n, err := strconv.Atoi(number); err == nil && n >= 0 && n < c.Layers {
				layer, rest, found = n, tail, true
			}
		}
	}
	if !found {
		return loraMatrix{}, fmt.Errorf("tensor %s adapts no linear layer of the %d layers", t.Name, c.Layers)
	}
	for _, p := range c.projections() {
		if p.source != rest {
			continue
		}
		m := loraMatrix{tensor: t}
		name, fits := fmt.Sprintf("blk.%d.%s.weight", layer, p.name), false
		if isB {
			name += ".lora_b"
			m.heads = p.heads
			fits = t.Rows == p.out
		} else {
			name += ".lora_a"
			fits = t.Cols == p.in
		}
		if !fits {
			return loraMatrix{}, fmt.Errorf("tensor %s is %d x %d, which does not fit the base model's %d x %d", t.Name, t.Rows, t.Cols, p.out, p.in)
		}
		m.info = TensorInfo{Name: name, Type: F32, Shape: []int{t.Rows, t.Cols}}
		return m, nil
	}
	return loraMatrix{}, fmt.Errorf("tensor %s adapts %s, which is no linear layer of this architecture", t.Name, rest)
}

func (m loraMatrix) write(w *Writer) error {
	t := m.tensor
	out := make([]byte, 4*t.Rows*t.Cols)
	for r := range t.Rows {
		from := r
		if m.heads > 0 {
			from = permutedRow(r, t.Rows, m.heads)
		}
		if err := Quantize(out[4*r*t.Cols:4*(r+1)*t.Cols], F32, t.Data[from*t.Cols:(from+1)*t.Cols]); err != nil {
			return err
		}
	}
	_, err := w.Write(out)
	return err
}
