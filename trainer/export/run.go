package export

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/progress"
	"github.com/tunemesh/tunemesh/trainer/sample"
	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/training/history"
	"github.com/tunemesh/tunemesh/trainer/tuned"
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
	e, err := newExporter(in, emit)
	if err != nil {
		return contract.Result{}, err
	}
	if err := e.run(ctx); err != nil {
		return contract.Result{}, err
	}
	return e.result(), nil
}

func newExporter(in contract.Input, emit *contract.Emitter) (*exporter, error) {
	c, err := dataset.Config(in)
	if err != nil {
		return nil, err
	}
	files, err := tuned.Find(in)
	if err != nil {
		return nil, err
	}
	cfg, err := tuned.Config(files.Base)
	if err != nil {
		return nil, err
	}
	source := files.Base
	if files.Full != "" {
		source = files.Full
	}
	l, err := plan(source, cfg)
	if err != nil {
		return nil, err
	}
	e := &exporter{in: in, config: c, files: files, shape: cfg, layout: l, emit: emit, artifacts: map[string]contract.Artifact{}, speeds: map[string]float64{}}
	var prepared sample.Summary
	if in.Previous(sample.OutputKey, &prepared) == nil && prepared.Template != "" {
		if e.template, err = template.Open(files.Base, prepared.Template); err != nil {
			return nil, tuned.Unusable(err)
		}
	}
	e.card, err = newCard(in, c, files.Base, cfg, l.dtype)
	return e, err
}

// exporter is one run of the stage.
type exporter struct {
	in       contract.Input
	config   contract.Config
	files    tuned.Files
	shape    model.Config
	layout   layout
	template *template.Template // the one that was trained with; nil for plain texts
	emit     *contract.Emitter
	report   *progress.Reporter
	card     Card

	artifacts map[string]contract.Artifact
	done      int64              // bytes, for the progress
	speeds    map[string]float64 // MB of weights in a second, by form
	seconds   float64
}

func (e *exporter) run(ctx context.Context) error {
	total := e.layout.bytes
	if !e.config.Export.SkipMerged {
		total *= int64(1 + len(e.config.Export.GGUF))
	}
	e.report = progress.New(e.emit, "bytes", total, time.Now)
	p, effect, err := e.prepare(ctx)
	if err != nil {
		return err
	}
	if !e.config.Export.SkipMerged {
		if err := e.merge(ctx, p, effect); err != nil {
			return err
		}
		for _, format := range e.config.Export.GGUF {
			if err := e.writeGGUF(ctx, format, p); err != nil {
				return err
			}
		}
	}
	if err := e.writeAdapter(ctx, p); err != nil {
		return err
	}
	if err := e.modelfiles(p); err != nil {
		return err
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

// prepare computes what every exported form has to agree with, and the largest
// difference of a logit that the training made. One block of one model is in memory at
// a time.
func (e *exporter) prepare(ctx context.Context) (*proof, float64, error) {
	list, err := probes(e.in, e.shape)
	if err != nil {
		return nil, 0, err
	}
	p := &proof{probes: list, bound: limits[e.layout.dtype]}
	if p.tok, _, err = tuned.Tokenizer(e.files.Base); err != nil {
		return nil, 0, err
	}
	p.render()
	jinja, eos, err := template.Source(e.files.Base)
	if err != nil {
		return nil, 0, tuned.Unusable(err)
	}
	if p.jinja = jinja; e.template != nil {
		p.jinja = e.template.Jinja()
	}
	p.stops = stopTexts(e.template, eos)
	before, err := e.compute(ctx, e.files.StreamBase, list)
	if err != nil {
		return nil, 0, err
	}
	if p.want, err = e.compute(ctx, e.files.StreamTuned, list); err != nil {
		return nil, 0, err
	}
	return p, compare(len(list), e.layout.dtype, p.bound, p.want, before).MaxDelta, nil
}

// compute gives a model's logits and closes it again.
func (e *exporter) compute(ctx context.Context, open func() (*tuned.Stream, error), list []model.Probe) ([][]float32, error) {
	s, err := open()
	if err != nil {
		return nil, err
	}
	defer s.Close()
	out, err := s.Logits(ctx, list)
	if err != nil {
		return nil, fmt.Errorf("export: parity: %w", err)
	}
	return out, nil
}

// merge writes the merged model and proves that it is the tuned one.
func (e *exporter) merge(ctx context.Context, p *proof, effect float64) error {
	dir := filepath.Join(e.in.OutputDir, MergedFolder)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("export: %w", err)
	}
	began := time.Now()
	if err := e.writeMerged(ctx, dir); err != nil {
		return err
	}
	e.speeds[MergedFolder] = float64(e.layout.bytes) / 1e6 / time.Since(began).Seconds()
	drift, err := p.folder(ctx, dir, e.layout.dtype)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	drift.TrainedDelta = effect
	e.card.Parity[MergedFolder] = drift
	e.say(MergedFolder, drift)
	e.weigh(drift)
	e.step(e.layout.bytes)
	e.artifacts[MergedFolder] = contract.Artifact{Path: MergedFolder, Place: contract.PlaceMerged}
	return nil
}

// writeMerged writes the folder.
func (e *exporter) writeMerged(ctx context.Context, dir string) error {
	s, err := e.files.StreamTuned()
	if err != nil {
		return err
	}
	defer s.Close()
	if err := e.layout.writeWeights(ctx, s, dir, e.report.At); err != nil {
		return err
	}
	return writeFiles(e.files.Base, dir, e.template, e.layout.dtype)
}

// step moves the progress on.
func (e *exporter) step(bytes int64) {
	e.done += bytes
	e.report.At(e.done)
}

// weigh warns if the number format took away much of what was learnt.
func (e *exporter) weigh(p Parity) {
	if p.MaxDelta > p.TrainedDelta/2 {
		e.emit.Warn("LOST_IN_ROUNDING", fmt.Sprintf("the merged model's logits are off by up to %.3g, and training changed them by %.3g only: in %s much of it is lost", p.MaxDelta, p.TrainedDelta, dtypeName[e.layout.dtype]),
			map[string]any{"hint": "use the adapter, which holds every bit, over the base model"})
	}
}

// say reports the drift of one form.
func (e *exporter) say(what string, p Parity) {
	words := fmt.Sprintf("%s, read again: logits differ from the tuned model's by at most %.3g, KL %.3g nats at most, %.3g on average, the same best token at %.1f %% of %d positions",
		what, p.MaxDelta, p.MaxKL, p.MeanKL, 100*p.SameTop, p.Positions)
	fields := map[string]any{"file": what, "max_delta_logit": p.MaxDelta, "max_kl": p.MaxKL, "mean_kl": p.MeanKL, "same_top": p.SameTop}
	if p.Judge != nil {
		words += fmt.Sprintf("; read by %s: KL %.3g nats on average, the same best token at %.1f %%", p.Judge.Program, p.Judge.MeanKL, 100*p.Judge.SameTop)
	}
	if note := otherBlocks(p); note != "" {
		words += "; " + note
		fields["types"] = p.Types
	}
	e.emit.Emit(contract.Event{Level: contract.LevelMetric, Message: words, Fields: fields})
}

// otherBlocks says what became of matrices whose rows do not fill the format's blocks.
func otherBlocks(p Parity) string {
	n, all := 0, 0
	for name, k := range p.Types {
		all += k
		if p.DType == "Q4_K_M" && name != "Q4_K" && name != "Q6_K" || p.DType == "Q8_0" && name != "Q8_0" {
			n += k
		}
	}
	if n == 0 {
		return ""
	}
	var list []string
	for _, name := range slices.Sorted(maps.Keys(p.Types)) {
		list = append(list, fmt.Sprintf("%d %s", p.Types[name], name))
	}
	return fmt.Sprintf("%d of %d matrices have rows that do not fill its blocks and another format, as llama.cpp chooses it (%s)", n, all, strings.Join(list, ", "))
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
	name := ""
	if e.template != nil {
		name = e.template.Name()
	}
	text := []byte(e.card.readme(tuning, name))
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
	names, err := licenseFiles(e.files.Base)
	if err != nil {
		return err
	}
	if err := copyLicense(e.files.Base, e.in.OutputDir); err != nil {
		return err
	}
	for _, name := range names {
		e.artifacts[name] = contract.Artifact{Path: name}
	}
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
	for form, speed := range e.speeds {
		metrics[form+"_mb_per_second"] = speed
	}
	if p, ok := s.Parity[MergedFolder]; ok {
		metrics["max_delta_logit"], metrics["max_kl"] = p.MaxDelta, p.MaxKL
	}
	for _, format := range e.config.Export.GGUF {
		if p, ok := s.Parity[e.ggufName(format)]; ok {
			metrics[format+"_mean_kl"], metrics[format+"_same_top"] = p.MeanKL, p.SameTop
		}
	}
	output := map[string]any{OutputKey: s}
	return contract.Result{Output: output, Artifacts: e.artifacts, Metrics: metrics}
}
