package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
)

// Previewer reads a file as a job would.
type Previewer func(ctx context.Context, r PreviewRequest) (DatasetPreview, error)

// PreviewRequest is what a Previewer is asked for.
type PreviewRequest struct {
	File, Name string          // path of the data, and its name, whose ending says the format
	ModelDir   string          // the base model's folder; "": the bundled one
	Config     json.RawMessage // as a job's
	Samples    int             // how many are shown
}

// DatasetPreview is what a job would make of a file.
type DatasetPreview struct {
	Task           string           `json:"task"`
	InputColumn    string           `json:"input_column"`
	LabelColumn    string           `json:"label_column,omitempty"`
	ContextColumn  string           `json:"context_column,omitempty"`
	Template       string           `json:"template,omitempty"`
	Instruction    string           `json:"instruction,omitempty"`
	Labels         []string         `json:"labels,omitempty"`
	TokenLimit     int              `json:"token_limit"`
	Rows           int64            `json:"rows"`
	Samples        int64            `json:"samples"`
	Dropped        map[string]int64 `json:"dropped"`
	Tokens         int64            `json:"tokens"`
	LossTokens     int64            `json:"loss_tokens"`
	MaxTokens      int              `json:"max_tokens"`
	CutOff         int64            `json:"cut_off"`
	NothingLearned int64            `json:"nothing_learned"`
	Longest        []PreviewLength  `json:"longest,omitempty"`
	Faults         []PreviewFault   `json:"faults,omitempty"`
	Warnings       []string         `json:"warnings,omitempty"`
	Shown          []PreviewSample  `json:"shown"`
}

// PreviewFault is why a stage of a job would refuse the data.
type PreviewFault struct {
	Stage   string `json:"stage"`
	Code    string `json:"code"`
	Message string `json:"message"` // with the place
	Row     int64  `json:"row,omitempty"`
	Column  string `json:"column,omitempty"`
	Hint    string `json:"hint,omitempty"` // what to do about it
}

// PreviewLength is a row whose answer would be cut off.
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
	Loss       [][2]int       `json:"loss"`
}

// PreviewPiece is a part of a sample's text; Loss: it is learned.
type PreviewPiece struct {
	Text string `json:"text"`
	Loss bool   `json:"loss"`
}

func (a *app) datasetPreview() *cobra.Command {
	var s submission
	samples, name := 3, ""
	c := &cobra.Command{
		Use:   "preview FILE|ID",
		Short: "Show how rows are put into words for a model, and what of them is learned",
		Long: `Show rows as a job would train on them: in the model's chat template, with what carries loss in
green on a terminal, in [[ ]] elsewhere; with token counts, how many rows would not fit, and what
validation and preprocessing would warn of or refuse. The exit code is 2 if a job would be refused.

FILE is a CSV, TSV or JSONL file on this machine, "-" standard input, ID a dataset of the mesh.
--model is a folder on this machine, the bundled tunemesh-mini (the default), or a model of the
mesh. With a file and one of the first two no mesh is needed. The whole file is read; nothing is
changed.
With --json: what was found, with the tokens' ids and the ranges of them that carry loss.`,
		Example: `  tunemesh dataset preview tickets.csv
  tunemesh dataset preview qa.jsonl --model ./Qwen2.5-0.5B-Instruct --task qa --samples 1
  zcat tickets.jsonl.gz | tunemesh dataset preview - --name tickets.jsonl
  tunemesh dataset preview ds_3f2a9c41d07b8e65 --model smollm2 --set preprocessing.max_length=256`,
		Args: exactArgs("FILE"),
		RunE: a.offline(func(c *call) error { return c.preview(s, name, samples) }),
	}
	f := c.Flags()
	f.StringVar(&s.model, "model", "", "base model: a `folder`, or a name")
	f.StringVar(&s.task, "task", "", "what the model learns: "+strings.Join(tasks, ", "))
	f.StringVar(&s.textColumn, "text-column", "", "`column` of the input (default: found by itself)")
	f.StringVar(&s.labelColumn, "label-column", "", "`column` of the answer (default: found by itself)")
	f.StringVar(&s.configFile, "config", "", "config `FILE` of a job, a JSON object")
	f.StringArrayVar(&s.sets, "set", nil, "one `KEY=VALUE` of the config; repeat it for more")
	f.StringVar(&name, "name", "", "`name` of the data; its ending says the format (default: the file's name)")
	f.IntVar(&samples, "samples", samples, "how many rows are shown, at most 1,000")
	_ = c.RegisterFlagCompletionFunc("task", fixed(tasks...))
	_ = c.RegisterFlagCompletionFunc("model", a.complete(modelNames))
	_ = c.MarkFlagFilename("config", "json")
	return c
}

// bundledModel is the one that needs no mesh.
const bundledModel = "tunemesh-mini"

// previewFiles are those of a model that a preview reads.
var previewFiles = []string{"config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja", "generation_config.json", "special_tokens_map.json"}

func (c *call) preview(s submission, name string, samples int) error {
	if samples < 0 || samples > 1000 {
		return usage(c.cmd, "--samples %d is not between 0 and 1,000", samples)
	}
	r := PreviewRequest{File: c.args[0], Samples: samples}
	if r.File == "-" && s.configFile == "-" {
		return usage(c.cmd, "only one of FILE and --config can be standard input")
	}
	model := s.model
	st, err := os.Stat(model)
	if local := err == nil && st.IsDir() && model != ""; local {
		r.ModelDir, model, s.model = model, "", ""
	}
	if model == bundledModel {
		model = ""
	}
	if r.Config, err = c.config(s); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "tunemesh-preview-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	ofMesh, err := c.previewSource(&r, name, dir)
	if err != nil {
		return err
	}
	if ofMesh || model != "" {
		if err := c.dial(); err != nil {
			return err
		}
	}
	if ofMesh {
		if err := c.previewDataset(&r, name, dir); err != nil {
			return err
		}
	}
	if model != "" {
		if r.ModelDir, err = c.previewModel(model, filepath.Join(dir, "model")); err != nil {
			return err
		}
	}
	p, err := c.Preview(c.ctx, r)
	if err != nil {
		if c.ctx.Err() != nil {
			return c.ctx.Err()
		}
		if f := (*failure)(nil); errors.As(err, &f) {
			return err
		}
		return wrong("", "%s", err)
	}
	if c.json {
		err = c.printJSON(p)
	} else {
		c.showPreview(p)
	}
	if err == nil && len(p.Faults) > 0 {
		return &failure{code: ExitUsage, silent: true}
	}
	return err
}

// previewSource finds the file to read, which is read more than once: what comes through a
// pipe is kept in dir. ofMesh: it is a dataset's id.
func (c *call) previewSource(r *PreviewRequest, name, dir string) (ofMesh bool, err error) {
	if _, err := os.Stat(r.File); err != nil && r.File != "-" {
		if !datasetID.MatchString(r.File) {
			return false, wrong("give a CSV, TSV or JSONL file on this machine, or a dataset's id: tunemesh dataset list", "%s cannot be read: %s", clip(r.File), reason(err))
		}
		return true, nil
	}
	src, err := openSource(r.File, name, c.cmd.InOrStdin())
	if err != nil {
		return false, err
	}
	defer src.close()
	if r.Name = src.name; src.size >= 0 {
		return false, nil
	}
	r.File = filepath.Join(dir, "data")
	kept, err := os.Create(r.File)
	if err != nil {
		return false, err
	}
	_, err = io.Copy(kept, src.body)
	return false, errors.Join(err, kept.Close())
}

// previewDataset brings a dataset's file here.
func (c *call) previewDataset(r *PreviewRequest, name, dir string) error {
	d, err := c.mesh.Dataset(c.ctx, r.File)
	if err != nil {
		return err
	}
	file, err := c.mesh.DatasetFile(c.ctx, d.ID)
	if err != nil {
		return err
	}
	bar := c.progress("fetch "+d.ID, file.Size)
	defer bar.end()
	r.Name, r.File = cmp.Or(name, filepath.Base(d.Name)), filepath.Join(dir, "data")
	return c.fetchObject(bar, file, r.File)
}

// previewModel brings a model's small files here.
func (c *call) previewModel(name, dir string) (string, error) {
	files, err := c.mesh.ModelFiles(c.ctx, name)
	var p *api.Problem
	if errors.As(err, &p) && p.Status == 404 {
		return "", wrong("name a folder on this machine, or one of: tunemesh model list", "there is no model %s", clip(name))
	}
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	bar := c.progress("fetch "+name, -1)
	defer bar.end()
	for _, f := range files {
		if slices.Contains(previewFiles, f.Name) {
			if err := c.fetchObject(bar, f, filepath.Join(dir, f.Name)); err != nil {
				return "", err
			}
		}
	}
	return dir, nil
}

func (c *call) showPreview(p DatasetPreview) {
	for _, s := range p.Shown {
		head := fmt.Sprintf("Row %d (%s): %s, %d of them learned", s.Row, s.Split, format.Plural(s.Tokens, "token"), s.LossTokens)
		if s.CutOff {
			head += ", too long"
		}
		fmt.Fprintln(c.out, c.scr.Style.Bold(head))
		fmt.Fprintln(c.out, c.marked(s.Pieces))
		fmt.Fprintln(c.out)
	}
	f := facts{c: c}
	f.add("Task", p.Task)
	f.add("Columns", strings.Join(slices.Compact(slices.DeleteFunc([]string{p.InputColumn, p.ContextColumn, p.LabelColumn}, func(s string) bool { return s == "" })), ", "))
	f.add("Template", p.Template)
	if len(p.Labels) > 0 {
		f.add("Labels", format.Count(int64(len(p.Labels))))
	}
	f.add("Samples", fmt.Sprintf("%s of %s rows", format.Count(p.Samples), format.Count(p.Rows)))
	if p.Samples > 0 {
		f.add("Tokens", fmt.Sprintf("%s, %s on average, %s at most", format.Count(p.Tokens), format.Count(p.Tokens/p.Samples), format.Count(int64(p.MaxTokens))))
		f.add("Learned", fmt.Sprintf("%s tokens, %s", format.Count(p.LossTokens), format.Percent(float64(p.LossTokens)/float64(max(p.Tokens, 1)))))
	}
	limit := "no limit"
	if p.TokenLimit > 0 {
		limit = format.Count(int64(p.TokenLimit)) + " tokens"
	}
	cut := fmt.Sprintf("%s of %s rows (limit: %s)", format.Count(p.CutOff), format.Count(p.Rows), limit)
	if len(p.Longest) > 0 {
		cut += fmt.Sprintf("; row %d has %s", p.Longest[0].Row, format.Count(int64(p.Longest[0].Tokens)))
	}
	f.add("Cut off", cut)
	if p.NothingLearned > 0 {
		f.add("Nothing learned", fmt.Sprintf("%s rows", format.Count(p.NothingLearned)))
	}
	f.print()
	for _, w := range p.Warnings {
		fmt.Fprintln(c.err, format.Indent("Warning: ", format.Clean(w), c.Screen(c.err).Width))
	}
	for _, f := range p.Faults {
		fmt.Fprintln(c.err, format.Indent("A job would be refused: ", format.Clean(f.Code+": "+f.Message), c.Screen(c.err).Width))
		if f.Hint != "" {
			fmt.Fprintln(c.err, format.Indent("Hint: ", format.Clean(f.Hint), c.Screen(c.err).Width))
		}
	}
}

// marked is a sample's text with what is learned in green, or in brackets.
func (c *call) marked(pieces []PreviewPiece) string {
	var b strings.Builder
	for _, piece := range pieces {
		lines := strings.Split(piece.Text, "\n")
		for i, line := range lines {
			if line = format.Clean(line); piece.Loss && line != "" && c.scr.Style.On {
				line = c.scr.Style.Good(line)
			}
			lines[i] = line
		}
		text := strings.Join(lines, "\n")
		if piece.Loss && !c.scr.Style.On {
			text = "[[" + text + "]]"
		}
		b.WriteString(text)
	}
	return b.String()
}
