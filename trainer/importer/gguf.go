package importer

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/template"
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

// templateOfOllama gives a model that has no chat template of its own the builtin one that
// writes what Ollama's writes.
func templateOfOllama(dir, text string, d *Description) error {
	jinja, eos, err := template.Source(dir)
	if err != nil || jinja != "" {
		return err
	}
	name := template.FromOllama(text, eos)
	if name == "" {
		d.Notes = append(d.Notes, "Ollama's template for the model is none of the builtin ones, and not kept")
		return nil
	}
	t, err := template.ByName(name, eos)
	if err != nil {
		return err
	}
	d.Notes = append(d.Notes, fmt.Sprintf("the chat template is %s, as Ollama's", name))
	return os.WriteFile(filepath.Join(dir, "chat_template.jinja"), []byte(t.Jinja()), 0o644)
}
