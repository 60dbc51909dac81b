package export

import (
	"context"
	"fmt"
	"math"
	"os"
	"path/filepath"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// adapterName is the artifact of the adapter as GGUF.
func (e *exporter) adapterName() string { return e.in.RunID + "_adapter.gguf" }

// writeAdapter writes the adapter as a GGUF that llama.cpp puts over a base model, and
// proves that with it the base model is the tuned one. A full fine-tune has none.
func (e *exporter) writeAdapter(ctx context.Context, p *proof) error {
	if e.files.Adapter == "" {
		return nil
	}
	name := e.adapterName()
	path := filepath.Join(e.in.OutputDir, name)
	if err := gguf.ExportAdapter(ctx, e.files.Adapter, e.files.Base, path); err != nil {
		return fmt.Errorf("export: adapter: %w", err)
	}
	drift, err := p.adapter(ctx, path, e.files)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if drift.Judge, err = e.judgeAdapter(ctx, path, p); err != nil {
		return err
	}
	e.card.Parity[name] = drift
	e.say(name, drift)
	e.artifacts[name] = contract.Artifact{Path: name, Place: contract.PlaceGGUF}
	return nil
}

// adapterHint is what is left to somebody whose adapter's GGUF is refused.
const adapterHint = "the adapter of training, in PEFT's form, is whole and can be used; the fault is in its conversion"

// adapter reads a GGUF adapter again, by what it says of itself, puts it over the base
// model and compares the logits with the tuned model's. Then it compares every matrix
// and the scale with those that were trained: both files hold F32, so no bit may differ,
// however little the training moved the logits.
func (p *proof) adapter(ctx context.Context, path string, files tuned.Files) (Parity, error) {
	name := filepath.Base(path)
	refuse := func(format string, args ...any) error {
		fault := differs(name+format, args...)
		fault.Hint = adapterHint
		return fault
	}
	src, err := gguf.OpenAdapter(path, files.Base)
	if err != nil {
		return Parity{}, refuse(" cannot be read again: %v", err)
	}
	defer src.Close()
	base, err := files.StreamBase()
	if err != nil {
		return Parity{}, err
	}
	defer base.Close()
	got, err := model.Streamed{
		Config: base.Config, Source: base.Files, Adapter: src.Matrix,
		LoRA: &model.LoRAConfig{Rank: src.Rank, Alpha: src.Alpha, TargetModules: src.Targets},
	}.Logits(ctx, p.probes)
	if err != nil {
		if ctx.Err() != nil {
			return Parity{}, err
		}
		return Parity{}, refuse(", read again, cannot be put over the base model: %v", err)
	}
	drift := compare(len(p.probes), weights.F32, limits[weights.F32], p.want, got)
	if !drift.within() {
		fault := drift.fault(name)
		fault.Hint = adapterHint
		return drift, fault
	}
	cfg, tensors, err := adapter.Load(files.Adapter)
	if err != nil {
		return drift, err
	}
	if scale := src.Alpha / float64(src.Rank); !(math.Abs(scale-cfg.Scaling()) <= 1e-6*cfg.Scaling()) {
		return drift, refuse(", read again, scales its matrices by %g, training by %g", scale, cfg.Scaling())
	}
	if n := src.Matrices(); n != len(tensors) {
		return drift, refuse(", read again, holds %d matrices, %d were trained", n, len(tensors))
	}
	for _, t := range tensors {
		values, err := src.Matrix(t.Name)
		if err != nil {
			return drift, refuse(", read again: %v", err)
		}
		if at := firstOther(values, t.Data); at >= 0 {
			return drift, refuse(", read again, differs from what was trained in %s, row %d", t.Name, at/t.Cols)
		}
	}
	return drift, nil
}

// firstOther is the index of the first value that is not the same, or -1.
func firstOther(a, b []float32) int {
	if len(a) != len(b) {
		return 0
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// judgeAdapter lets the node's program put the adapter over the base model, if there is
// one. The base is written for it as GGUF, in its own number format, and removed again.
func (e *exporter) judgeAdapter(ctx context.Context, path string, p *proof) (*Judged, error) {
	if len(judgeCommand()) == 0 {
		return nil, nil
	}
	dir, err := os.MkdirTemp(e.in.ScratchDir, "base-")
	if err != nil {
		return nil, fmt.Errorf("export: base model for the judge: %w", err)
	}
	defer os.RemoveAll(dir)
	base := filepath.Join(dir, "base.gguf")
	if err := gguf.Export(ctx, e.files.Base, base, gguf.Options{Type: e.layout.dtype}); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		e.emit.Warn("NOT_JUDGED", fmt.Sprintf("%s is judged by this program alone: the base model has no form as GGUF: %v", filepath.Base(path), err), nil)
		return nil, nil
	}
	return e.judge(ctx, judged{name: filepath.Base(path), model: base, adapter: path, bound: p.bound, kind: weights.F32}, p)
}
