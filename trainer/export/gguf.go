package export

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// types are the GGUF types of the job's config, as package gguf calls them.
var types = map[string]string{"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0", "q4_k_m": "Q4_K_M"}

// formats lists the config's names of GGUF types, for a message.
func formats() string { return strings.Join(slices.Sorted(maps.Keys(types)), ", ") }

// ggufName is the artifact of one type: JOB_Q4_K_M.gguf.
func (e *exporter) ggufName(format string) string { return e.in.RunID + "_" + types[format] + ".gguf" }

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
	what := judged{name: name, model: path, bound: wider(limits[types[format]], p.bound), kind: types[format]}
	if drift.Judge, err = e.judge(ctx, what, p); err != nil {
		return err
	}
	e.card.Parity[name] = drift
	e.say(name, drift)
	e.step(e.layout.bytes)
	e.artifacts[name] = contract.Artifact{Path: name, Place: contract.PlaceGGUF}
	return nil
}
