package export

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/progress"
	"github.com/tunemesh/tunemesh/trainer/sample"
	"github.com/tunemesh/tunemesh/trainer/training/history"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// OutputKey is the key of Summary in the stage's output.
const OutputKey = "export"

// Names of artifacts.
const (
	MergedFolder = "merged"
	CurveFile    = "training_curve.png"
)

// Summary is the stage's output under OutputKey.
type Summary struct {
	Files  []FileCard        `json:"files"`
	Bytes  int64             `json:"bytes"` // of all files
	Parity map[string]Parity `json:"parity,omitempty"`
	DType  string            `json:"dtype,omitempty"` // of the merged matrices
}

// Run is the stage.
func Run(ctx context.Context, in contract.Input, emit *contract.Emitter) (contract.Result, error) {
	c, err := dataset.Config(in)
	if err != nil {
		return contract.Result{}, err
	}
	files, err := tuned.Find(in)
	if err != nil {
		return contract.Result{}, err
	}
	cfg, err := tuned.Config(files.Base)
	if err != nil {
		return contract.Result{}, err
	}
	source := files.Base
	if files.Full != "" {
		source = files.Full
	}
	l, err := plan(source, cfg)
	if err != nil {
		return contract.Result{}, err
	}
	e := &exporter{in: in, config: c, files: files, shape: cfg, layout: l, emit: emit, artifacts: map[string]contract.Artifact{}}
	var prepared sample.Summary
	if in.Previous(sample.OutputKey, &prepared) == nil {
		e.template = prepared.Template
	}
	if e.card, err = newCard(in, c, files.Base, cfg, l.dtype); err != nil {
		return contract.Result{}, err
	}
	if err := e.run(ctx); err != nil {
		return contract.Result{}, err
	}
	return e.result(), nil
}

// exporter is one run of the stage.
type exporter struct {
	in       contract.Input
	config   contract.Config
	files    tuned.Files
	shape    model.Config
	layout   layout
	template string // the name of the one that was trained with
	emit     *contract.Emitter
	report   *progress.Reporter
	card     Card

	artifacts map[string]contract.Artifact
	seconds   float64
}

func (e *exporter) run(ctx context.Context) error {
	total := e.layout.bytes
	if !e.config.Export.SkipMerged {
		total *= int64(1 + len(e.config.Export.GGUF))
	}
	e.report = progress.New(e.emit, "bytes", total, time.Now)
	if e.config.Export.SkipMerged {
		if err := e.adapterAlone(ctx); err != nil {
			return err
		}
	} else {
		if err := e.merge(ctx); err != nil {
			return err
		}
		for i, format := range e.config.Export.GGUF {
			if err := e.writeGGUF(ctx, format); err != nil {
				return err
			}
			e.report.At(e.layout.bytes * int64(2+i))
		}
	}
	if err := e.curve(); err != nil {
		return err
	}
	if err := e.describe(); err != nil {
		return err
	}
	e.seconds = e.report.End(total)
	return nil
}

// merge writes the merged model and proves that it is the tuned one.
func (e *exporter) merge(ctx context.Context) error {
	dir := filepath.Join(e.in.OutputDir, MergedFolder)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	list, err := probes(e.in, e.shape)
	if err != nil {
		return err
	}
	before, err := e.compute(ctx, e.files.OpenBase, list)
	if err != nil {
		return err
	}
	want, err := e.writeMerged(ctx, dir, list)
	if err != nil {
		return err
	}
	if err := e.prove(ctx, MergedFolder, dir, e.layout.dtype, list, want); err != nil {
		return err
	}
	e.weigh(compare(len(list), e.layout.dtype, want, before).MaxDelta)
	e.artifacts[MergedFolder] = contract.Artifact{Path: MergedFolder, Place: contract.PlaceMerged}
	return nil
}

// writeMerged writes the folder and returns what the tuned model computes for the
// probes. The model is closed by then: two at a time would take twice the memory.
func (e *exporter) writeMerged(ctx context.Context, dir string, list []probe) ([][]float32, error) {
	m, err := e.files.OpenTuned()
	if err != nil {
		return nil, err
	}
	defer m.Close()
	want, err := logits(ctx, m.Model, list)
	if err != nil {
		return nil, err
	}
	if err := e.layout.writeWeights(ctx, m.Model, dir, e.report.At); err != nil {
		return nil, err
	}
	return want, writeFiles(e.files.Base, dir, e.template, e.layout.dtype)
}

// compute gives a model's logits and closes it again.
func (e *exporter) compute(ctx context.Context, open func() (*tuned.Model, error), list []probe) ([][]float32, error) {
	m, err := open()
	if err != nil {
		return nil, err
	}
	defer m.Close()
	return logits(ctx, m.Model, list)
}

// weigh warns if the number format took away much of what was learnt: effect is
// the largest difference of a logit that the training made.
func (e *exporter) weigh(effect float64) {
	p := e.card.Parity[MergedFolder]
	p.TrainedDelta = effect
	e.card.Parity[MergedFolder] = p
	if p.MaxDelta > effect/2 {
		e.emit.Warn("LOST_IN_ROUNDING", fmt.Sprintf("the merged model's logits are off by up to %.3g, and training changed them by %.3g only: in %s much of it is lost", p.MaxDelta, effect, dtypeName[e.layout.dtype]),
			map[string]any{"hint": "use the adapter, which holds every bit, over the base model"})
	}
}

// prove reads a model's folder again and compares it with the tuned model.
func (e *exporter) prove(ctx context.Context, what, dir, dtype string, list []probe, want [][]float32) error {
	got, err := e.compute(ctx, func() (*tuned.Model, error) { return tuned.Open(dir) }, list)
	if err != nil {
		return fmt.Errorf("export: read %s again: %w", what, err)
	}
	p := compare(len(list), dtype, want, got)
	if err := p.check(what); err != nil {
		return err
	}
	e.card.Parity[what] = p
	e.emit.Emit(contract.Event{Level: contract.LevelMetric, Message: fmt.Sprintf("%s, read again: logits differ from the tuned model's by at most %.3g, KL %.3g nats, over %d positions", what, p.MaxDelta, p.MaxKL, p.Positions),
		Fields: map[string]any{"max_delta_logit": p.MaxDelta, "max_kl": p.MaxKL, "same_top": p.SameTop}})
	return nil
}

// writeGGUF converts the merged model.
func (e *exporter) writeGGUF(ctx context.Context, format string) error {
	name := e.in.RunID + "-" + format + ".gguf"
	path := filepath.Join(e.in.OutputDir, name)
	display := e.in.RunID
	if e.config.Model != "" {
		display = e.config.Model + " " + e.in.RunID
	}
	err := gguf.Export(ctx, filepath.Join(e.in.OutputDir, MergedFolder), path, gguf.Options{Type: types[format], Name: display})
	if err != nil {
		if ctx.Err() != nil {
			return err
		}
		return &contract.Error{Class: contract.ClassUnsupported, Code: "NOT_CONVERTIBLE", Field: "export.gguf", Message: err.Error(), Hint: "the adapter is an artifact of training; set export.skip_merged to do without GGUF"}
	}
	f, err := gguf.Open(path) // checks every tensor's place
	if err != nil {
		return fmt.Errorf("export: read %s again: %w", name, err)
	}
	f.Close()
	e.artifacts[name] = contract.Artifact{Path: name, Place: contract.PlaceGGUF}
	return nil
}

// adapterAlone writes the adapter as a GGUF that llama.cpp puts over a base model.
// A full fine-tune has none.
func (e *exporter) adapterAlone(ctx context.Context) error {
	if e.files.Adapter == "" {
		return nil
	}
	m, err := e.files.OpenTuned() // a broken adapter is refused here too
	if err != nil {
		return err
	}
	m.Close()
	name := e.in.RunID + "-adapter.gguf"
	if err := gguf.ExportAdapter(ctx, e.files.Adapter, e.files.Base, filepath.Join(e.in.OutputDir, name)); err != nil {
		return fmt.Errorf("export: adapter: %w", err)
	}
	e.artifacts[name] = contract.Artifact{Path: name, Place: contract.PlaceGGUF}
	return nil
}

// curve draws the training's log; a pipeline without one goes without the picture.
func (e *exporter) curve() error {
	f, err := e.in.FindName(history.FileName)
	if err != nil {
		e.emit.Warn("NO_TRAINING_LOG", "no stage left a "+history.FileName+": there is nothing to draw", nil)
		return nil
	}
	log, err := history.Read(f.Path)
	if err != nil {
		return err
	}
	if err := Curve(log, "Training of "+e.in.RunID, filepath.Join(e.in.OutputDir, CurveFile)); err != nil {
		return err
	}
	e.artifacts[CurveFile] = contract.Artifact{Path: CurveFile}
	return nil
}

// describe writes the README and, last, the card with the hashes of all files.
func (e *exporter) describe() error {
	tuning := "LoRA"
	if e.files.Full != "" {
		tuning = "full fine-tuning"
	}
	text := []byte(e.card.readme(tuning, e.template))
	paths := []string{filepath.Join(e.in.OutputDir, ReadmeFile)}
	if _, ok := e.artifacts[MergedFolder]; ok {
		paths = append(paths, filepath.Join(e.in.OutputDir, MergedFolder, ReadmeFile))
	}
	for _, path := range paths {
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return fmt.Errorf("export: %w", err)
		}
	}
	e.artifacts[ReadmeFile] = contract.Artifact{Path: ReadmeFile}
	var err error
	if e.card.Files, err = hashFiles(e.in.OutputDir, ""); err != nil {
		return err
	}
	if err := dataset.WriteJSON(filepath.Join(e.in.OutputDir, CardFile), e.card); err != nil {
		return fmt.Errorf("export: model card: %w", err)
	}
	e.artifacts[CardFile] = contract.Artifact{Path: CardFile}
	return nil
}

func (e *exporter) result() contract.Result {
	s := Summary{Files: e.card.Files, Parity: e.card.Parity, DType: dtypeName[e.layout.dtype]}
	for _, f := range s.Files {
		s.Bytes += f.Size
	}
	metrics := map[string]float64{"bytes": float64(s.Bytes), "mb_per_second": float64(s.Bytes) / 1e6 / e.seconds}
	if p, ok := s.Parity[MergedFolder]; ok {
		metrics["max_delta_logit"], metrics["max_kl"] = p.MaxDelta, p.MaxKL
	}
	output := map[string]any{OutputKey: s}
	return contract.Result{Output: output, Artifacts: e.artifacts, Metrics: metrics}
}
