package importer

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tunemesh/tunemesh/trainer/weights/gguf"
)

// DescriptionName is the file in the folder that holds the Description.
const DescriptionName = "import.json"

// Options of an import; the zero value chooses.
type Options struct {
	// DType is the number format of the matrices: "F32", "F16" or "BF16". Empty keeps
	// the source's; of a quantized GGUF file it is F32 if that makes up to 4 GiB, else
	// BF16.
	DType string
	// Name is what errors call the source; empty: its path.
	Name string
	// OllamaTemplate is the Go template of the Ollama model that the file is from: for a file
	// without a chat template of its own.
	OllamaTemplate string
	// License is the text of the licence, or its name, where it is not in the source.
	License string
	// Progress, if set, hears now and then of the bytes of weights that are done.
	Progress func(done, total int64)
}

// Description is what is known of an imported model.
type Description struct {
	Source       string   `json:"-"`    // base name of the file or folder; a renamed file is the same model
	Kind         string   `json:"kind"` // "huggingface" or "gguf"
	Name         string   `json:"name,omitempty"`
	Architecture string   `json:"architecture"`
	Parameters   int64    `json:"parameters"`
	DType        string   `json:"dtype"`              // "BF16"; "F32, BF16" of a mixture
	SourceDType  string   `json:"source_dtype"`       // the same of the source: "Q8_0, Q4_1"
	Context      int      `json:"context"`            // tokens
	Tokenizer    string   `json:"tokenizer"`          // "byte-level BPE, 49152 tokens"
	Template     string   `json:"template"`           // a builtin's name, "own" or "none"
	License      string   `json:"license,omitempty"`  // as the source says it
	Notes        []string `json:"notes,omitempty"`    // what was changed on the way
	Warnings     []string `json:"warnings,omitempty"` // what will not work as one may expect
	Files        []File   `json:"-"`                  // by name, import.json included
}

// File is one file of the folder.
type File struct {
	Name   string
	Size   int64
	SHA256 string
}

// UnsupportedError says that the model is sound but not one that can be imported.
type UnsupportedError struct{ Err error }

func (e *UnsupportedError) Error() string { return e.Err.Error() }

// Unwrap gives the reason.
func (e *UnsupportedError) Unwrap() error { return e.Err }

// Import reads source, a Hugging Face folder or a GGUF file, and writes the canonical
// folder outDir, which must not exist or be empty. Memory: a few rows of a tensor and
// the vocabulary. After an error outDir is as it was.
func Import(ctx context.Context, source, outDir string, opts Options) (Description, error) {
	d, err := importInto(ctx, source, outDir, opts)
	if err != nil {
		return d, fmt.Errorf("import %s: %w", cmp.Or(opts.Name, source), within(err, source, outDir))
	}
	return d, nil
}

func importInto(ctx context.Context, source, outDir string, opts Options) (d Description, err error) {
	switch opts.DType {
	case "", "F32", "F16", "BF16":
	default:
		return d, fmt.Errorf("dtype %q: there are F32, F16 and BF16", opts.DType)
	}
	st, err := os.Stat(source)
	if err != nil {
		return d, err
	}
	undo, err := prepare(outDir)
	if err != nil {
		return d, err
	}
	defer func() {
		if err != nil {
			undo()
		}
	}()
	d.Source = filepath.Base(filepath.Clean(source))
	switch {
	case st.IsDir():
		d.Kind = "huggingface"
		err = importFolder(ctx, source, outDir, opts, &d)
	case gguf.IsFile(source):
		d.Kind = "gguf"
		err = importGGUF(ctx, source, outDir, opts, &d)
		if err == nil && opts.OllamaTemplate != "" {
			err = templateOfOllama(outDir, opts.OllamaTemplate, &d)
		}
	default:
		err = noModel(source)
	}
	if err != nil {
		return d, err
	}
	if err := keepLicense(outDir, opts.License, &d); err != nil {
		return d, err
	}
	if err := describe(outDir, &d); err != nil {
		return d, err
	}
	raw, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return d, err
	}
	if err := os.WriteFile(filepath.Join(outDir, DescriptionName), append(raw, '\n'), 0o644); err != nil {
		return d, err
	}
	d.Files, err = hashFiles(ctx, outDir)
	return d, err
}

// prepare makes sure of an empty folder and gives what takes it back.
func prepare(dir string) (undo func(), err error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return nil, err
		}
		return func() { _ = os.RemoveAll(dir) }, nil
	case err != nil:
		return nil, err
	case len(entries) > 0:
		return nil, fmt.Errorf("the folder %s is not empty", dir)
	}
	return func() {
		entries, _ := os.ReadDir(dir) // what cannot be read cannot be removed either
		for _, e := range entries {
			_ = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}, nil
}
