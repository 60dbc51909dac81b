package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli"
	"github.com/tunemesh/tunemesh/trainer/importer"
	"github.com/tunemesh/tunemesh/trainer/importer/hub"
	"github.com/tunemesh/tunemesh/trainer/importer/ollama"
)

// importModel is the client's `model import` and `model pull`: the verbs are the cli's, the
// knowledge of models the trainer's.
func importModel(ctx context.Context, r cli.ImportRequest) (cli.Imported, error) {
	path, from, done := r.Source, "", func() {}
	opts := importer.Options{DType: r.DType, Name: r.Name, Progress: func(done, total int64) { r.Progress("convert", done, total) }}
	switch {
	case strings.HasPrefix(r.Source, "hf:"):
		got, source, err := fetchFromHub(ctx, r)
		if err != nil {
			return cli.Imported{}, err
		}
		path, from = got.Path, source
		done = got.Drop
	case strings.HasPrefix(r.Source, "ollama:"):
		m, err := ollama.Find(ctx, ollama.Stores(os.Getenv), r.Source)
		if err != nil {
			return cli.Imported{}, err
		}
		path, from, opts.OllamaTemplate = m.Path, "ollama:"+m.Name, m.Template
		opts.License = m.License
	}
	d, err := importer.Import(ctx, path, r.OutDir, opts)
	if err != nil {
		if importer.Refused(err) && r.DType == "" { // the same bytes would be refused again
			done()
		}
		return cli.Imported{}, err
	}
	out := cli.Imported{
		Architecture: d.Architecture, Parameters: d.Parameters, DType: d.DType, SourceDType: d.SourceDType, Context: d.Context,
		Tokenizer: d.Tokenizer, Template: d.Template, License: d.License, Notes: d.Notes, Warnings: d.Warnings, Source: from, Done: done,
	}
	for _, f := range d.Files {
		out.Files = append(out.Files, api.ModelFile{Name: f.Name, Size: f.Size, SHA256: f.SHA256})
	}
	return out, nil
}

func fetchFromHub(ctx context.Context, r cli.ImportRequest) (hub.Fetched, string, error) {
	source, err := hub.Parse(r.Source)
	if err != nil {
		return hub.Fetched{}, "", err
	}
	cache := r.CacheDir
	if cache == "" {
		user, err := os.UserCacheDir()
		if err != nil {
			return hub.Fetched{}, "", fmt.Errorf("no folder for downloads, name one with --cache-dir: %w", err)
		}
		cache = filepath.Join(user, "tunemesh", "hub")
	}
	c, err := hub.New(hub.Config{
		Endpoint: os.Getenv("HF_ENDPOINT"), Token: os.Getenv("HF_TOKEN"), UserAgent: "tunemesh/" + version,
		Waiting: func(err error, pause time.Duration) {
			r.Notice(fmt.Sprintf("%v; trying again in %v.", err, pause))
		},
	})
	if err != nil {
		return hub.Fetched{}, "", err
	}
	got, err := c.Fetch(ctx, source, cache, hub.Hooks{Progress: func(done, total int64) { r.Progress("fetch", done, total) }, Check: importer.Check})
	source.Revision = got.Commit
	return got, source.String(), hubFault(err, cache)
}

// hubFault gives a download's error the exit code and the hint of its kind.
func hubFault(err error, cache string) error {
	var gone *hub.UnavailableError
	switch {
	case errors.As(err, &gone):
		return cli.Unreachable("", "%v", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return cli.NoRoom(fmt.Sprintf("make room in %s, or name a folder on another disk with --cache-dir; what has come is kept", cache), "%v", err)
	}
	return err
}
