package preprocessing

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/records"
	"github.com/tunemesh/tunemesh/trainer/sample"
	validate "github.com/tunemesh/tunemesh/trainer/validation"
)

// PreviewOptions say what to show of a file.
type PreviewOptions struct {
	File     string          // path of the data
	Name     string          // its name, whose ending says the format; "": that of the path
	ModelDir string          // the base model's folder: its tokenizer and settings, no weights
	Config   json.RawMessage // as a job's
	Samples  int             // how many are shown, of the first rows
}

// Preview is what the stages dataset, validation and preprocessing would make of a file.
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
	// Faults are why a job would be refused, by the stages in their order.
	Faults   []PreviewFault  `json:"faults,omitempty"`
	Warnings []string        `json:"warnings,omitempty"`
	Shown    []PreviewSample `json:"shown"`
}

// PreviewFault is why a stage would refuse the data.
type PreviewFault struct {
	Stage   string `json:"stage"`
	Code    string `json:"code"`
	Message string `json:"message"` // with the place
	Row     int64  `json:"row,omitempty"`
	Column  string `json:"column,omitempty"`
	Hint    string `json:"hint,omitempty"` // what to do about it
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
	emit := contract.NewEmitter(&log, "Preview", time.Now)
	result, err := dataset.Run(ctx, in, emit)
	if err != nil {
		return nil, err
	}
	if in.PreviousOutput["dataset"], err = json.Marshal(result.Output); err != nil {
		return nil, err
	}
	// What validation refuses ends a job, and not the preview: the rows show what is wrong.
	_, refused := validate.Run(ctx, in, emit)
	if refused != nil && contract.AsError(refused).Class != contract.ClassBadInput {
		return nil, refused
	}
	p, err := preview(ctx, in, o)
	switch {
	case err != nil && refused != nil && contract.AsError(err).Class == contract.ClassBadInput:
		return nil, refused
	case err != nil:
		return nil, err
	}
	p.Warnings = append(warnings(&log), p.Warnings...)
	if refused != nil {
		p.Faults = append([]PreviewFault{faultOf("validation", refused)}, p.Faults...)
	}
	return p, nil
}

func faultOf(stage string, err error) PreviewFault {
	e := contract.AsError(err)
	return PreviewFault{Stage: stage, Code: e.Code, Message: strings.TrimPrefix(e.Error(), e.Code+": "), Row: e.Row, Column: e.Column, Hint: e.Hint}
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
	e, w, err := begin(ctx, src, model, func(int64) {})
	if err != nil {
		return nil, err
	}
	shown := []PreviewSample{}
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
		return nil, err
	}
	return w.preview(src, e.survey, shown), nil
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
			IDs: s.Tokens, Loss: s.Loss}
		why, _ := e.judge(&s)
		p.CutOff = why == tooLong || why == noRoom
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
	for _, d := range w.left[tooLong].first {
		p.Longest = append(p.Longest, PreviewLength{d.row, d.tokens})
	}
	var log bytes.Buffer
	if err := w.judge(s, contract.NewEmitter(&log, "Preview", time.Now)); err != nil {
		p.Faults = append(p.Faults, faultOf("preprocessing", err))
	}
	p.Warnings = warnings(&log)
	return p
}
