package preprocessing

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/progress"
	"github.com/tunemesh/tunemesh/trainer/records"
	"github.com/tunemesh/tunemesh/trainer/sample"
	"github.com/tunemesh/tunemesh/trainer/table"
	"github.com/tunemesh/tunemesh/trainer/template"
)

// files are the artifacts' names, by fate.
var files = [splits]string{sample.TrainFile, sample.ValidationFile, sample.TestFile}

// mostLost is the share of the samples that may be left out, because their answer would be cut
// off or nothing of them is learnt, before that is an error: a model trained on the rest has
// seen the short ones only.
const mostLost = 0.1

// codeEmptySplit is an error for the training split and a warning for the others.
const codeEmptySplit = "EMPTY_SPLIT"

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
	limit, err := tokenLimit(src.Config, model)
	if err != nil {
		return contract.Result{}, err
	}
	// Two passes: the progress counts each row twice.
	report := progress.New(emit, "rows", 2*src.Profile.Rows, time.Now)
	s := newSurvey(src.Config)
	s.file = src.Profile.File
	if err := s.run(ctx, src, report.At); err != nil {
		return contract.Result{}, err
	}
	prompt := newPrompter(src.Config, model, s)
	if src.Config.Instruction == "" && prompt.instruction != "" {
		emit.Info(fmt.Sprintf("the instruction does not name the %d labels: that would take more tokens than the texts", len(prompt.labels)), nil)
	}
	w := &writer{template: model.template, summary: newSummary(src, s, model, prompt, limit), byClass: map[int]int64{}}
	e := &encoder{survey: s, model: model, prompt: prompt, limit: limit}
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
	template        *template.Template // nil for the task completion
	summary         sample.Summary
	byClass         map[int]int64
	defused         int64
	tooLong, noLoss []dropOut // the first few
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
		return located(err, src.Profile.File)
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
	if n := len(b.tooLong); n > 0 {
		sum.Dropped[sample.DroppedTooLong] += int64(n)
		w.tooLong = append(w.tooLong, b.tooLong[:min(n, 5-min(5, len(w.tooLong)))]...)
	}
	if n := len(b.noLoss); n > 0 {
		sum.Dropped[sample.DroppedNoLoss] += int64(n)
		w.noLoss = append(w.noLoss, b.noLoss[:min(n, 5-min(5, len(w.noLoss)))]...)
	}
}

// judge says what was dropped and refuses splits that are no use.
func (w *writer) judge(s *survey, emit *contract.Emitter) error {
	sum := &w.summary
	if n := sum.Dropped[sample.DroppedTooLong]; n > 0 {
		emit.Warn("SAMPLES_TOO_LONG", fmt.Sprintf("%d samples are longer than %d tokens and left out, so that no answer is cut off: %s", n, sum.TokenLimit, rowsOf(w.tooLong)), map[string]any{"count": n, "hint": "raise preprocessing.max_length, or shorten the texts"})
	}
	if n := sum.Dropped[sample.DroppedNoLoss]; n > 0 {
		emit.Warn("NOTHING_TO_LEARN", fmt.Sprintf("%d samples hold no token to learn and are left out: %s", n, rowsOf(w.noLoss)), map[string]any{"count": n})
	}
	if w.defused > 0 {
		emit.Warn("SPECIAL_TOKENS_IN_TEXT", fmt.Sprintf("%d rows hold special tokens of the model, such as those that end a turn; they were broken up", w.defused), map[string]any{"count": w.defused})
	}
	if m := w.template; m != nil && !m.Ends() {
		emit.Warn("TEMPLATE_WITHOUT_END", "the model's chat template writes nothing behind an answer: the tuned model will not learn where to end", map[string]any{"hint": "name a builtin template in the job's config: " + strings.Join(template.Names(), ", ")})
	}
	if sum.Train == 0 {
		return &contract.Error{
			Class: contract.ClassBadInput, Code: codeEmptySplit,
			Message: "no sample is left for training: " + w.losses(),
			Hint:    "add data, raise preprocessing.max_length, or lower preprocessing.test_fraction and preprocessing.validation_fraction",
		}
	}
	if fault := w.lost(); fault != nil {
		fault.File = s.file
		return fault
	}
	// Training goes without a validation loss, and evaluation takes rows that
	// training has seen and says so: what a file of few rows allows.
	if sum.Validation == 0 {
		emit.Warn(codeEmptySplit, "no sample is left for validation, so training shows no validation loss: "+w.losses(), map[string]any{"split": "validation", "hint": "add data, or raise preprocessing.validation_fraction"})
	}
	if sum.Test == 0 {
		emit.Warn(codeEmptySplit, "no sample is left for the test, so the evaluation has no held-out rows: "+w.losses(), map[string]any{"split": "test", "hint": "add data, or raise preprocessing.test_fraction"})
	}
	var gone []string
	for class, name := range s.names {
		if s.config.Task == "classification" && w.byClass[class] == 0 {
			gone = append(gone, fmt.Sprintf("%q", name))
		}
	}
	if len(gone) > 0 {
		emit.Warn("CLASS_WITHOUT_SAMPLES", "no sample to train on is left of: "+table.List(gone), nil)
	}
	emit.Info(fmt.Sprintf("%d samples to train on, %d for validation, %d for the test; %d tokens, the longest sample has %d", sum.Train, sum.Validation, sum.Test, sum.TotalTokens, sum.MaxTokens),
		map[string]any{"dropped": sum.Dropped, "redacted": sum.Redacted, "template": sum.Template})
	return nil
}

// lost refuses a run that leaves out too many samples.
func (w *writer) lost() *contract.Error {
	sum := &w.summary
	tooLong, noLoss := sum.Dropped[sample.DroppedTooLong], sum.Dropped[sample.DroppedNoLoss]
	all := sum.Train + sum.Validation + sum.Test + tooLong + noLoss
	fault := &contract.Error{Class: contract.ClassBadInput}
	switch {
	case float64(tooLong) > mostLost*float64(all):
		fault.Code, fault.Row, fault.Field = "ANSWERS_CUT_OFF", w.tooLong[0].row, "preprocessing.max_length"
		fault.Message = fmt.Sprintf("%d of %d samples are longer than %d tokens, so that their answers would be cut off: %s", tooLong, all, sum.TokenLimit, rowsOf(w.tooLong))
		fault.Hint = "raise preprocessing.max_length, choose a model with a longer context, or shorten the texts"
	case float64(noLoss) > mostLost*float64(all):
		fault.Code, fault.Row = "NOTHING_TO_LEARN", w.noLoss[0].row
		fault.Message = fmt.Sprintf("%d of %d samples hold no token to learn: %s", noLoss, all, rowsOf(w.noLoss))
		fault.Hint = "an answer has to stand in the rows: name its column as label_column, or for chats let each end with the assistant"
	default:
		return nil
	}
	return fault
}

// losses says where the rows went.
func (w *writer) losses() string {
	sum := &w.summary
	return fmt.Sprintf("of %d rows %d lack a value, %d are duplicates, %d are longer than %d tokens, %d hold nothing to learn", sum.Rows,
		sum.Dropped[sample.DroppedMissing], sum.Dropped[sample.DroppedDuplicate], sum.Dropped[sample.DroppedTooLong], sum.TokenLimit, sum.Dropped[sample.DroppedNoLoss])
}

func rowsOf(drops []dropOut) string {
	out := ""
	for i, d := range drops {
		if i > 0 {
			out += ", "
		}
		out += fmt.Sprintf("row %d (%d tokens)", d.row, d.tokens)
	}
	return out
}
