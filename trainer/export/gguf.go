package export

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// types are the GGUF types of the job's config, as package gguf calls them.
var types = map[string]string{"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q4_k_m": "Q4_K_M"}

// formats lists the config's names of GGUF types, for a message.
func formats() string { return strings.Join(slices.Sorted(maps.Keys(types)), ", ") }

// ggufName is the artifact of one type: JOB_Q4_K_M.gguf.
func (e *exporter) ggufName(format string) string { return e.in.RunID + "_" + types[format] + ".gguf" }

// adapterName is the artifact of the adapter as GGUF.
func (e *exporter) adapterName() string { return e.in.RunID + "_adapter.gguf" }

// writeGGUF converts the merged model and proves that the file is the tuned model.
func (e *exporter) writeGGUF(ctx context.Context, format string, p *proof) error {
	name := e.ggufName(format)
	path := filepath.Join(e.in.OutputDir, name)
	display := e.in.RunID
	if e.config.Model != "" {
		display = e.config.Model + " " + e.in.RunID
	}
	merged, began, before := filepath.Join(e.in.OutputDir, MergedFolder), time.Now(), e.done
	err := gguf.Export(ctx, merged, path, gguf.Options{Type: types[format], Name: display, Progress: func(n int64) { e.report.At(min(before+n, before+e.layout.bytes)) }})
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return &contract.Error{Class: contract.ClassUnsupported, Code: "NOT_CONVERTIBLE", Field: "export.gguf", Message: err.Error(), Hint: "the adapter is an artifact of training; set export.skip_merged to do without GGUF"}
	}
	e.speeds[format] = float64(e.layout.bytes) / 1e6 / time.Since(began).Seconds()
	drift, err := p.file(ctx, path, types[format], merged)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	if drift.Judge, err = e.judge(ctx, path, types[format], p); err != nil {
		return err
	}
	e.card.Parity[name] = drift
	e.say(name, drift)
	e.step(e.layout.bytes)
	e.artifacts[name] = contract.Artifact{Path: name, Place: contract.PlaceGGUF}
	return nil
}

// writeAdapter writes the adapter as a GGUF that llama.cpp puts over a base model. A
// full fine-tune has none.
func (e *exporter) writeAdapter(ctx context.Context) error {
	if e.files.Adapter == "" {
		return nil
	}
	name := e.adapterName()
	path := filepath.Join(e.in.OutputDir, name)
	if err := gguf.ExportAdapter(ctx, e.files.Adapter, e.files.Base, path); err != nil {
		return fmt.Errorf("export: adapter: %w", err)
	}
	f, err := gguf.Open(path) // checks every tensor's place
	if err != nil {
		return fmt.Errorf("export: read %s again: %w", name, err)
	}
	defer f.Close()
	if err := e.proveAdapter(f); err != nil {
		return err
	}
	e.artifacts[name] = contract.Artifact{Path: name, Place: contract.PlaceGGUF}
	return nil
}

// proveAdapter compares the matrices of a GGUF adapter with those that were trained.
// Rows may stand in another order and names are others: the matrices are told apart by
// their shapes and the sums of their squares.
func (e *exporter) proveAdapter(f *gguf.File) error {
	_, tensors, err := adapter.Load(e.files.Adapter)
	if err != nil {
		return fmt.Errorf("export: adapter: %w", err)
	}
	type matrix struct {
		rows, cols int
		squares    float64
	}
	order := func(a, b matrix) int {
		return cmp.Or(cmp.Compare(a.rows, b.rows), cmp.Compare(a.cols, b.cols), cmp.Compare(a.squares, b.squares))
	}
	squares := func(values []float32) (sum float64) {
		for _, v := range values {
			sum += float64(v) * float64(v)
		}
		return sum
	}
	var want, got []matrix
	for _, t := range tensors {
		want = append(want, matrix{t.Rows, t.Cols, squares(t.Data)})
	}
	for _, info := range f.Tensors() {
		rows, err := f.Rows(info.Name)
		if err != nil {
			return err
		}
		values := make([]float32, rows.Count*rows.Width)
		if err := rows.Read(values, 0); err != nil {
			return err
		}
		got = append(got, matrix{rows.Count, rows.Width, squares(values)})
	}
	slices.SortFunc(want, order)
	slices.SortFunc(got, order)
	same := slices.EqualFunc(want, got, func(a, b matrix) bool {
		return a.rows == b.rows && a.cols == b.cols && math.Abs(a.squares-b.squares) <= 1e-9*max(a.squares, 1e-30)
	})
	if !same {
		return differs("%s, read again, holds other matrices than the adapter: %d of them, %d were trained", e.adapterName(), len(got), len(want))
	}
	return nil
}
