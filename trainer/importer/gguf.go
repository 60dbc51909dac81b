package importer

import (
	"context"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

func importGGUF(ctx context.Context, source, outDir string, opts Options, d *Description) error {
	got, err := gguf.Import(ctx, source, outDir, gguf.ImportOptions{DType: opts.DType, Progress: opts.Progress})
	if err != nil {
		return err
	}
	d.Name, d.License, d.Notes = got.Name, got.License, got.Notes
	var types []string
	for _, t := range got.Types {
		types = append(types, t.String())
	}
	d.SourceDType = strings.Join(types, ", ")
	return nil
}
