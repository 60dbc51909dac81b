package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/tunemesh/tunemesh/cli"
	"github.com/tunemesh/tunemesh/models"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/preprocessing"
)

// previewDataset is the client's `dataset preview`, with the trainer's own stages.
func previewDataset(ctx context.Context, r cli.PreviewRequest) (cli.DatasetPreview, error) {
	var out cli.DatasetPreview
	// As strict as the mesh with a job of the builtin stages.
	if _, err := contract.ParseConfig(r.Config, true); err != nil {
		return out, asGiven(err)
	}
	dir := r.ModelDir
	if dir == "" {
		tmp, err := os.MkdirTemp("", "tunemesh-mini-")
		if err != nil {
			return out, err
		}
		defer os.RemoveAll(tmp)
		if err := os.CopyFS(tmp, models.Mini()); err != nil {
			return out, fmt.Errorf("unpack the bundled model: %w", err)
		}
		dir = tmp
	}
	p, err := preprocessing.MakePreview(ctx, preprocessing.PreviewOptions{File: r.File, Name: r.Name, ModelDir: dir, Config: r.Config, Samples: r.Samples})
	if err != nil {
		return out, asGiven(err)
	}
	// The two have the same JSON; the client knows no trainer.
	raw, err := json.Marshal(p)
	if err != nil {
		return out, err
	}
	return out, json.Unmarshal(raw, &out)
}

// asGiven says a stage's error as one of the file, the model or the config given:
// where, what, and what to do.
func asGiven(err error) error {
	const settings = "docs/config.md lists the fields of the config and their values"
	var field contract.FieldError
	if errors.As(err, &field) {
		return cli.Wrong(settings, "config %s %s", field.Field, field.Message)
	}
	var e *contract.Error
	if !errors.As(err, &e) {
		return err
	}
	place := e.File
	if e.Row > 0 {
		place += fmt.Sprintf(", row %d", e.Row)
	}
	if e.Column != "" {
		place += fmt.Sprintf(", column %q", e.Column)
	}
	switch {
	case place != "":
		return cli.Wrong(e.Hint, "%s: %s", strings.TrimPrefix(place, ", "), e.Message)
	case e.Code == "INVALID_CONFIG" && e.Field != "": // the message goes on from the field's name
		return cli.Wrong(cmp.Or(e.Hint, settings), "config %s %s", e.Field, e.Message)
	case e.Class == contract.ClassConfig && e.Field != "":
		return cli.Wrong(cmp.Or(e.Hint, settings), "%s (config %s)", e.Message, e.Field)
	}
	return cli.Wrong(e.Hint, "%s", e.Message)
}
