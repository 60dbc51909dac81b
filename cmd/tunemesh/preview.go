package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/tunemesh/tunemesh/cli"
	"github.com/tunemesh/tunemesh/models"
	"github.com/tunemesh/tunemesh/trainer/preprocessing"
)

// previewDataset is the client's `dataset preview`, with the trainer's own stages.
func previewDataset(ctx context.Context, r cli.PreviewRequest) (cli.DatasetPreview, error) {
	var out cli.DatasetPreview
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
		return out, err
	}
	// The two have the same JSON; the client knows no trainer.
	raw, err := json.Marshal(p)
	if err != nil {
		return out, err
	}
	return out, json.Unmarshal(raw, &out)
}
