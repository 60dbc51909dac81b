package export

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/evaluation"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/sample"
)

// CardFile and ReadmeFile are artifacts' names.
const (
	CardFile   = "model_card.json"
	ReadmeFile = "README.md"
)

// Card is model_card.json: what the model is, where it comes from, and how to know
// its files again. What no stage of the pipeline said is left out.
type Card struct {
	RunID string    `json:"run_id"`
	Task  string    `json:"task"`
	Base  BaseModel `json:"base_model"`
	Data  *DataCard `json:"data,omitempty"`
	// Prepared is preprocessing's summary: splits, template, what was dropped and
	// redacted. Validation and Training are those stages' own outputs.
	Prepared   *sample.Summary `json:"preprocessing,omitempty"`
	Validation json.RawMessage `json:"validation,omitempty"`
	Training   json.RawMessage `json:"training,omitempty"`
	// Settings are the job's, with the defaults and what the stages chose filled in.
	Settings contract.Config    `json:"settings"`
	Metrics  *evaluation.Report `json:"metrics,omitempty"`
	Parity   map[string]Parity  `json:"parity,omitempty"` // by exported form
	Files    []FileCard         `json:"files"`

	trained *trained // Training, as far as the README tells of it
}

// BaseModel is what the tuned model was made from.
type BaseModel struct {
	Name         string `json:"name"`
	Source       string `json:"source,omitempty"`       // hf:ORG/NAME@COMMIT or ollama:NAME, where the mesh knows it
	License      string `json:"license,omitempty"`      // as the model's own card says
	LicenseLink  string `json:"license_link,omitempty"` // of its text: an address, or a file beside this card
	Architecture string `json:"architecture"`
	Parameters   int64  `json:"parameters"`
	Context      int    `json:"context"` // tokens
	DType        string `json:"dtype"`
	SHA256       string `json:"weights_sha256,omitempty"` // of its model.safetensors
}

// DataCard is the dataset, by which it is known again.
type DataCard struct {
	Name    string   `json:"name,omitempty"` // what the user called the file, where the mesh knows it
	File    string   `json:"file"`           // its name in the mesh, by its hash
	SHA256  string   `json:"sha256"`
	Bytes   int64    `json:"bytes"`
	Rows    int64    `json:"rows"`
	Columns []string `json:"columns"`
	Input   string   `json:"input_column,omitempty"`
	Target  string   `json:"target_column,omitempty"`
}

// FileCard is one exported file.
type FileCard struct {
	Name   string `json:"name"` // as an artifact
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
}

// newCard gathers what the stages before have said.
func newCard(in contract.Input, c contract.Config, base string, cfg model.Config, dtype string) (Card, error) {
	card := Card{RunID: in.RunID, Task: c.Task, Parity: map[string]Parity{}, Files: []FileCard{}}
	var err error
	card.Base, err = describeBase(in, c, base, cfg, dtype)
	if err != nil {
		return Card{}, err
	}
	var profile *dataset.Profile
	if p := (dataset.Profile{}); in.Previous(dataset.OutputKey, &p) == nil {
		profile = &p
		card.Data = &DataCard{Name: originalName(in), File: profile.File, SHA256: profile.SHA256, Bytes: profile.Bytes, Rows: profile.Rows, Input: profile.Roles.Input.Column, Target: profile.Roles.Target.Column}
		for _, column := range profile.Columns {
			card.Data.Columns = append(card.Data.Columns, column.Name)
		}
	}
	var prepared sample.Summary
	if in.Previous(sample.OutputKey, &prepared) == nil {
		card.Prepared, card.Task = &prepared, prepared.Task
	}
	_ = in.Previous("validation", &card.Validation) // a pipeline may do without
	_ = in.Previous("training", &card.Training)
	if done, ok := readTrained(card.Training); ok {
		card.trained = &done
	}
	card.Settings = settle(c, profile, card.Prepared, card.trained)
	var report evaluation.Report
	if in.Previous(evaluation.OutputKey, &report) == nil {
		// Answers hold texts of the user's rows: a card is passed on, they are not.
		report.Answers, report.Extremes = nil, nil
		card.Metrics = &report
	}
	return card, nil
}

// originalName is what the user called the dataset's file, "" if that is not known.
func originalName(in contract.Input) string {
	for _, f := range in.Inputs {
		if f.Stage == contract.SourceInputs {
			return f.OriginalName
		}
	}
	return ""
}

func describeBase(in contract.Input, c contract.Config, dir string, cfg model.Config, dtype string) (BaseModel, error) {
	b := BaseModel{Name: c.Model, Source: in.BaseSource, Architecture: strings.Join(cfg.Architectures, ", "), Parameters: cfg.NumParams(), Context: cfg.MaxPositions, DType: dtypeName[dtype]}
	for _, f := range in.Inputs {
		if f.Stage == contract.ModelInputs && f.Name == "model.safetensors" {
			b.SHA256 = f.SHA256
		}
	}
	var err error
	b.License, b.LicenseLink, err = readLicense(dir)
	return b, err
}

// frontMatter reads one plain field of the YAML between the first two lines of
// dashes; "" if there is none.
func frontMatter(text, field string) string {
	rest, ok := strings.CutPrefix(strings.ReplaceAll(text, "\r\n", "\n"), "---\n")
	if !ok {
		return ""
	}
	head, _, ok := strings.Cut(rest, "\n---")
	if !ok {
		return ""
	}
	for line := range strings.Lines(head) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			return strings.Trim(strings.TrimSpace(value), `"'`)
		}
	}
	return ""
}

// hashFiles describes every file at or below root, named from dir, in the order of
// the names.
func hashFiles(dir, root string) ([]FileCard, error) {
	var out []FileCard
	err := filepath.WalkDir(filepath.Join(dir, root), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		h := sha256.New()
		n, err := io.Copy(h, f)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		out = append(out, FileCard{filepath.ToSlash(name), n, hex.EncodeToString(h.Sum(nil))})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("export: hash: %w", err)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Name < out[j].Name })
	return out, nil
}
