package preprocessing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/progress"
	"github.com/tunemesh/tunemesh/trainer/records"
	"github.com/tunemesh/tunemesh/trainer/sample"
)

// files are the artifacts' names, by fate.
var files = [splits]string{sample.TrainFile, sample.ValidationFile, sample.TestFile}

// Run is the stage.
func Run(ctx context.Context, in contract.Input, emit *contract.Emitter) (contract.Result, error) {
	src, err := records.New(in)
	if err != nil {
		return contract.Result{}, err
	}
	model, err := loadModel(in, src.Config)
	if err != nil {
		return contract.Result{}, err
	}
	// Two passes: the progress counts each row twice.
	report := progress.New(emit, "rows", 2*src.Profile.Rows, time.Now)
	e, w, err := begin(ctx, src, model, report.At)
	if err != nil {
		return contract.Result{}, err
	}
	s := e.survey
	if src.Config.Instruction == "" && e.prompt.instruction != "" {
		emit.Info(fmt.Sprintf("the instruction does not name the %d labels: that would take more tokens than the texts", len(e.prompt.labels)), nil)
	}
	if err := w.run(ctx, in.OutputDir, src, e, func(done int64) { report.At(s.rows + done) }); err != nil {
		return contract.Result{}, err
	}
	seconds := report.End(2 * s.rows)
	if err := w.judge(s, emit); err != nil {
		return contract.Result{}, err
	}
	result := contract.Result{
		Output:    map[string]any{sample.OutputKey: w.summary},
		Artifacts: map[string]contract.Artifact{},
		Metrics: map[string]float64{
			"rows_per_second": float64(s.rows) / seconds, "mb_per_second": float64(src.Profile.Bytes) / 1e6 / seconds,
			"samples": float64(w.summary.Train + w.summary.Validation + w.summary.Test), "tokens": float64(w.summary.TotalTokens),
			"tokens_per_second": float64(w.summary.TotalTokens) / seconds,
		},
	}
	for _, name := range files {
		result.Artifacts[name] = contract.Artifact{Path: name, Place: contract.PlaceProcessed}
	}
	return result, nil
}

// begin is the first pass, and what the second one needs. at is told how many rows are done.
func begin(ctx context.Context, src *records.Source, m *baseModel, at func(int64)) (*encoder, *writer, error) {
	limit, err := tokenLimit(src.Config, m)
	if err != nil {
		return nil, nil, err
	}
	s := newSurvey(src.Config)
	s.file = src.Profile.File
	if err := s.run(ctx, src, at); err != nil {
		return nil, nil, err
	}
	p := newPrompter(src.Config, m, s)
	labels, err := countLabels(s, p)
	if err != nil {
		return nil, nil, err
	}
	e := &encoder{survey: s, model: m, prompt: p, room: labels.room(), limit: limit}
	return e, &writer{prompt: p, labels: labels, summary: newSummary(src, s, m, p, limit), byClass: map[int]int64{}}, nil
}

// tokenLimit is how long a sample may be: what the config says, or the model's
// context.
func tokenLimit(c contract.Config, m *baseModel) (int, error) {
	limit := c.Preprocessing.MaxLength
	switch {
	case limit == 0:
		return m.context, nil
	case m.context > 0 && limit > m.context:
		return 0, &contract.Error{Class: contract.ClassConfig, Code: "INVALID_CONFIG", Field: "preprocessing.max_length", Message: fmt.Sprintf("is %d, the model's context holds %d tokens", limit, m.context)}
	}
	return limit, nil
}

func newSummary(src *records.Source, s *survey, m *baseModel, p *prompter, limit int) sample.Summary {
	roles := src.Profile.Roles
	sum := sample.Summary{
		Task: src.Config.Task, InputColumn: roles.Input.Column, LabelColumn: roles.Target.Column,
		Labels: s.labels(), Rows: s.rows, TokenLimit: limit, TokenizerSHA256: m.sha256,
		Instruction: p.effective(), Dropped: s.dropped, Relabels: s.relabel,
	}
	if m.template != nil {
		sum.Template = m.template.Name()
	}
	if roles.Messages.Column != "" {
		sum.InputColumn, sum.LabelColumn = roles.Messages.Column, roles.Messages.Column
	}
	if src.Config.Preprocessing.PII == "redact" {
		sum.Redacted = s.pii.Map()
	}
	return sum
}

// writer is the second pass's end: it writes the splits and counts.
type writer struct {
	prompt   *prompter
	labels   labelTokens
	summary  sample.Summary
	byClass  map[int]int64
	defused  int64
	shortest int // prompt of a sample; 0: none
	left     [reasons]leftOut
}

// leftOut is the rows that are left out for one reason.
type leftOut struct {
	count       int64
	first       []dropOut // the first few
	least, most int       // tokens
}

func (l *leftOut) add(drops []dropOut) {
	for _, d := range drops {
		if l.count++; len(l.first) < 5 {
			l.first = append(l.first, d)
		}
		if l.most = max(l.most, d.tokens); l.least == 0 || d.tokens < l.least {
			l.least = d.tokens
		}
	}
}

func (w *writer) run(ctx context.Context, dir string, src *records.Source, e *encoder, at func(int64)) (err error) {
	var out [splits]*sample.Writer
	for i, name := range files {
		f, createErr := os.Create(filepath.Join(dir, name))
		if createErr != nil {
			return fmt.Errorf("write samples: %w", createErr)
		}
		out[i] = sample.NewWriter(f)
		defer func() { err = errors.Join(err, f.Close()) }()
	}
	done := int64(0)
	err = records.Map(ctx, src, e.batch, func(b *encoded) error {
		for i := range out {
			if err := out[i].WriteLine(b.lines[i]); err != nil {
				return fmt.Errorf("write samples: %w", err)
			}
		}
		w.count(b)
		done += b.rows
		at(done)
		return nil
	})
	if err != nil {
		return err
	}
	for i := range out {
		if err := out[i].Flush(); err != nil {
			return fmt.Errorf("write samples: %w", err)
		}
	}
	return nil
}

func (w *writer) count(b *encoded) {
	sum := &w.summary
	sum.Train += b.samples[train]
	sum.Validation += b.samples[validation]
	sum.Test += b.samples[test]
	sum.TotalTokens += b.tokens
	sum.LossTokens += b.loss
	sum.MaxTokens = max(sum.MaxTokens, b.longest)
	w.defused += b.defused
	for class, n := range b.byClass {
		w.byClass[class] += n
	}
	if b.shortest > 0 && (w.shortest == 0 || b.shortest < w.shortest) {
		w.shortest = b.shortest
	}
	for why, drops := range b.left {
		w.left[why].add(drops)
		if key := [reasons]string{sample.DroppedTooLong, sample.DroppedNoLoss, sample.DroppedTooLong}[why]; len(drops) > 0 {
			sum.Dropped[key] += int64(len(drops))
		}
	}
}
