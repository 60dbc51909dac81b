package preprocessing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/records"
	"github.com/tunemesh/tunemesh/trainer/sample"
)

// PreviewOptions say what to show of a file.
type PreviewOptions struct {
	File     string          // path of the data
	Name     string          // its name, whose ending says the format; "": that of the path
	ModelDir string          // the base model's folder: its tokenizer and settings, no weights
	Config   json.RawMessage // as a job's
	Samples  int             // how many are shown, of the first rows
}

// Preview is what the stages dataset and preprocessing would make of a file.
type Preview struct {
	Task          string   `json:"task"`
	InputColumn   string   `json:"input_column"`
	LabelColumn   string   `json:"label_column,omitempty"`
	ContextColumn string   `json:"context_column,omitempty"`
	Template      string   `json:"template,omitempty"`
	Instruction   string   `json:"instruction,omitempty"`
	Labels        []string `json:"labels,omitempty"`
	TokenLimit    int      `json:"token_limit"` // 0: none

	Rows       int64            `json:"rows"`
	Samples    int64            `json:"samples"`
	Dropped    map[string]int64 `json:"dropped"` // why, how many
	Tokens     int64            `json:"tokens"`
	LossTokens int64            `json:"loss_tokens"`
	MaxTokens  int              `json:"max_tokens"`
	// CutOff and NothingLearned are rows that a job would leave out, or refuse: their answer
	// would not fit, or no token of them carries loss.
	CutOff         int64           `json:"cut_off"`
	NothingLearned int64           `json:"nothing_learned"`
	Longest        []PreviewLength `json:"longest,omitempty"` // of those that are cut off, the first few
	Fault          string          `json:"fault,omitempty"`   // why a job would be refused
	Warnings       []string        `json:"warnings,omitempty"`
	Shown          []PreviewSample `json:"shown"`
}

// PreviewLength is a row that is too long.
type PreviewLength struct {
	Row    int64 `json:"row"`
	Tokens int   `json:"tokens"`
}

// PreviewSample is a row as the model is trained on it.
type PreviewSample struct {
	Row        int64          `json:"row"`
	Split      string         `json:"split"`
	Pieces     []PreviewPiece `json:"pieces"`
	Tokens     int            `json:"tokens"`
	LossTokens int            `json:"loss_tokens"`
	CutOff     bool           `json:"cut_off,omitempty"`
	IDs        []int32        `json:"ids"`
	Loss       [][2]int       `json:"loss"` // half-open ranges of IDs
}

// PreviewPiece is a part of a sample's text; Loss: it is learned.
type PreviewPiece struct {
	Text string `json:"text"`
	Loss bool   `json:"loss"`
}

// MakePreview reads the whole file as a job would, and writes nothing.
func MakePreview(ctx context.Context, o PreviewOptions) (*Preview, error) {
	work, err := os.MkdirTemp("", "tunemesh-preview-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(work)
	if o.Name == "" {
		o.Name = filepath.Base(o.File)
	}
	st, err := os.Stat(o.File)
	if err != nil {
		return nil, err
	}
	in := contract.Input{
		Contract: contract.Version, RunID: "preview", Stage: "dataset", Kind: "dataset", Attempt: 1, Config: o.Config,
		InputDir: work, OutputDir: work, ScratchDir: work, CheckpointDir: work, PreviousOutput: map[string]json.RawMessage{},
		Inputs: []contract.File{{Stage: contract.SourceInputs, Name: o.Name, Path: o.File, Size: st.Size()}},
	}
	var log bytes.Buffer
	result, err := dataset.Run(ctx, in, contract.NewEmitter(&log, "Preview", time.Now))
	if err != nil {
		return nil, err
	}
	if in.PreviousOutput["dataset"], err = json.Marshal(result.Output); err != nil {
		return nil, err
	}
	p, err := preview(ctx, in, o)
	if err == nil {
		p.Warnings = append(warnings(&log), p.Warnings...)
	}
	return p, err
}

func warnings(log io.Reader) (out []string) {
	for d := json.NewDecoder(log); d.More(); {
		var e contract.Event
		if d.Decode(&e) != nil {
			break
		}
		if e.Level == contract.LevelWarn {
			out = append(out, e.Message)
		}
	}
	return out
}

func preview(ctx context.Context, in contract.Input, o PreviewOptions) (*Preview, error) {
	src, err := records.New(in)
	if err != nil {
		return nil, err
	}
	model, err := readModel(o.ModelDir, src.Config)
	if err != nil {
		return nil, err
	}
	limit, err := tokenLimit(src.Config, model)
	if err != nil {
		return nil, err
	}
	s := newSurvey(src.Config)
	s.file = src.Profile.File
	if err := s.run(ctx, src, func(int64) {}); err != nil {
		return nil, err
	}
	prompt := newPrompter(src.Config, model, s)
	w := &writer{template: model.template, summary: newSummary(src, s, model, prompt, limit), byClass: map[int]int64{}}
	e := &encoder{survey: s, model: model, prompt: prompt, limit: limit}
	var shown []PreviewSample
	type both struct {
		*encoded
		shown []PreviewSample
	}
	err = records.Map(ctx, src, func(batch []records.Record) (both, error) {
		b, err := e.batch(batch)
		if err != nil {
			return both{}, err
		}
		few, err := e.show(batch, o.Samples)
		return both{b, few}, err
	}, func(b both) error {
		w.count(b.encoded)
		shown = append(shown, b.shown[:min(len(b.shown), o.Samples-len(shown))]...)
		return nil
	})
	if err != nil {
		return nil, located(err, src.Profile.File)
	}
	return w.preview(src, s, shown), nil
}

// located names the file in a fault that does not.
func located(err error, file string) error {
	var fault *contract.Error
	if errors.As(err, &fault) && fault.File == "" {
		fault.File = file
	}
	return err
}

// show renders the first rows of a batch that are not left out.
func (e *encoder) show(batch []records.Record, most int) (out []PreviewSample, err error) {
	for i := range batch {
		r := &batch[i]
		where, class := e.survey.fate(r)
		if where == dropped || len(out) == most {
			continue
		}
		s := sample.Sample{Row: r.Row, Input: r.Input, Target: r.Target}
		if e.survey.config.Task == "classification" {
			s.Target = e.survey.names[class]
		}
		segments, err := e.prompt.segments(r, s.Target)
		if err != nil {
			return nil, fmt.Errorf("row %d: %w", r.Row, err)
		}
		var mask []bool
		if err := e.encode(r, &s, &mask); err != nil {
			return nil, fmt.Errorf("row %d: %w", r.Row, err)
		}
		p := PreviewSample{Row: r.Row, Split: [splits]string{"train", "validation", "test"}[where], Tokens: len(s.Tokens), LossTokens: s.LossTokens(),
			CutOff: e.limit > 0 && len(s.Tokens) > e.limit, IDs: s.Tokens, Loss: s.Loss}
		for _, segment := range segments {
			p.Pieces = append(p.Pieces, PreviewPiece{segment.Text, segment.Loss})
		}
		out = append(out, p)
	}
	return out, nil
}

func (w *writer) preview(src *records.Source, s *survey, shown []PreviewSample) *Preview {
	sum := &w.summary
	p := &Preview{
		Task: sum.Task, InputColumn: sum.InputColumn, LabelColumn: sum.LabelColumn, ContextColumn: src.Profile.Roles.Context.Column,
		Template: sum.Template, Instruction: sum.Instruction, Labels: sum.Labels, TokenLimit: sum.TokenLimit,
		Rows: sum.Rows, Samples: sum.Train + sum.Validation + sum.Test, Dropped: sum.Dropped, Tokens: sum.TotalTokens, LossTokens: sum.LossTokens, MaxTokens: sum.MaxTokens,
		CutOff: sum.Dropped[sample.DroppedTooLong], NothingLearned: sum.Dropped[sample.DroppedNoLoss], Shown: shown,
	}
	for _, d := range w.tooLong {
		p.Longest = append(p.Longest, PreviewLength{d.row, d.tokens})
	}
	var log bytes.Buffer
	if err := w.judge(s, contract.NewEmitter(&log, "Preview", time.Now)); err != nil {
		p.Fault = err.Error()
	}
	p.Warnings = warnings(&log)
	return p
}

// newPrompter settles the instruction.
func newPrompter(c contract.Config, m *baseModel, s *survey) *prompter {
	p := &prompter{task: c.Task, model: m, labels: s.labels(), instruction: c.Instruction}
	if p.instruction == "" && len(p.labels) > mostLabels {
		p.instruction = manyLabels
	}
	return p
}
