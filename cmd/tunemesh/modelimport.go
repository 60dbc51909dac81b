package main

import (
	"context"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli"
	"github.com/tunemesh/tunemesh/trainer/importer"
)

// importModel is the client's `model import`: the verb is the cli's, the knowledge of
// models the trainer's.
func importModel(ctx context.Context, source, outDir, dtype string, progress func(done, total int64)) (cli.Imported, error) {
	d, err := importer.Import(ctx, source, outDir, importer.Options{DType: dtype, Progress: progress})
	if err != nil {
		return cli.Imported{}, err
	}
	out := cli.Imported{
		Architecture: d.Architecture, Parameters: d.Parameters, DType: d.DType, SourceDType: d.SourceDType, Context: d.Context,
		Tokenizer: d.Tokenizer, Template: d.Template, License: d.License, Notes: d.Notes, Warnings: d.Warnings,
	}
	for _, f := range d.Files {
		out.Files = append(out.Files, api.ModelFile{Name: f.Name, Size: f.Size, SHA256: f.SHA256})
	}
	return out, nil
}
