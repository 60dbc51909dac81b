package gguf

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/weights"
	"github.com/tunemesh/tunemesh/trainer/weights/atomicfile"
)

// autoF32Limit is the size that the matrices of a quantized file may have as F32 to be
// imported so: they are no 16-bit numbers. Above, about a billion parameters, the file
// would not go through one upload, and training would need twice the memory.
const autoF32Limit = 4 << 30

// ImportOptions of an import; the zero value chooses.
type ImportOptions struct {
	// DType of the matrices: "F32", "F16" or "BF16". Empty keeps what the file has;
	// of a quantized file it is F32 if that makes up to 4 GiB, else BF16.
	DType string
	// Progress, if set, hears of the bytes of the file that have been converted.
	Progress func(done, total int64)
}

// Imported is what a file said of itself.
type Imported struct {
	Name     string // general.name
	License  string // general.license
	Types    []Type // of the matrices, without repetition
	DType    string // that the matrices have now
	PreToken string // tokenizer.ggml.pre, or tokenizer.ggml.model where that says all
	// Notes are what was changed on the way or could not be kept.
	Notes []string
}

// Import writes the model in the file path as a Hugging Face folder: config.json,
// model.safetensors, tokenizer.json, tokenizer_config.json. Architectures: llama,
// qwen2, qwen3 and gemma3, with the properties that Export knows; anything else is
// refused. Quantized weights are
// decoded, vectors stay in F32 as the file has them. Memory: some rows of a tensor,
// and the vocabulary. dir has to exist; after an error it may hold some of the files.
func Import(ctx context.Context, path, dir string, opts ImportOptions) (Imported, error) {
	f, err := Open(path)
	if err != nil {
		return Imported{}, err
	}
	defer f.Close()
	got, err := importFile(ctx, f, dir, opts)
	if err != nil {
		return got, fmt.Errorf("gguf: import %s: %w", path, err)
	}
	return got, nil
}

func importFile(ctx context.Context, f *File, dir string, opts ImportOptions) (Imported, error) {
	m := metadata{f}
	var got Imported
	got.Name, _ = m.text("general.name")
	got.License, _ = m.text("general.license")
	if err := m.split(); err != nil {
		return got, err
	}
	config, err := m.config()
	if err != nil {
		return got, advised(err)
	}
	vocab, err := m.vocabulary()
	if err != nil {
		return got, advised(err)
	}
	if len(vocab.tokens) > config.VocabSize {
		return got, advised(fmt.Errorf("%d tokens, but the embedding has %d rows", len(vocab.tokens), config.VocabSize))
	}
	got.PreToken = vocab.kind()
	got.Notes = append(vocab.notes, vocab.ties()...)
	jobs, err := config.imports(f)
	if err != nil {
		return got, advised(err)
	}
	if err := got.choose(jobs, opts.DType); err != nil {
		return got, err
	}
	tok, err := vocab.tokenizerJSON()
	if err != nil {
		return got, err
	}
	if _, err := tokenizer.Parse(tok); err != nil {
		return got, err
	}
	tokConfig, err := vocab.configJSON(config.MaxPositions)
	if err != nil {
		return got, err
	}
	configJSON, err := config.json(vocab, got.DType)
	if err != nil {
		return got, err
	}
	for name, data := range map[string][]byte{"config.json": configJSON, "tokenizer.json": tok, "tokenizer_config.json": tokConfig} {
		if err := writeWhole(filepath.Join(dir, name), data); err != nil {
			return got, err
		}
	}
	return got, writeImports(ctx, f, filepath.Join(dir, weights.SingleName), jobs, got.DType, opts.Progress)
}

func writeWhole(path string, data []byte) error {
	f, err := atomicfile.Create(path)
	if err != nil {
		return err
	}
	defer f.Abort()
	if _, err := f.Write(data); err != nil {
		return err
	}
	return f.Commit()
}

// choose settles the number format and says what it costs.
func (g *Imported) choose(jobs []importJob, want string) error {
	var size int64 // of the matrices as F32
	seen := map[Type]bool{}
	quantized, wide := false, false
	for _, j := range jobs {
		if len(j.info.Shape) < 2 {
			continue
		}
		size += 4 * int64(j.info.Shape[0]) * int64(j.info.Shape[1])
		if t := j.info.Type; !seen[t] {
			seen[t] = true
			g.Types = append(g.Types, t)
			quantized = quantized || t.Quantized()
			wide = wide || t == F32
		}
	}
	g.DType = want
	switch {
	case want == weights.F32 || want == weights.F16 || want == weights.BF16:
	case want != "":
		return fmt.Errorf("dtype %q: there are F32, F16 and BF16", want)
	case quantized && size > autoF32Limit:
		g.DType = weights.BF16
	case len(g.Types) == 1 && !quantized:
		g.DType = g.Types[0].String()
	default: // quantized, or a mixture that only F32 holds exactly
		g.DType = weights.F32
	}
	var names []string
	for _, t := range g.Types {
		names = append(names, t.String())
	}
	from := strings.Join(names, " and ")
	switch {
	case quantized && g.DType == weights.F32:
		g.Notes = append(g.Notes, fmt.Sprintf("the weights are decoded exactly from %s; what quantization lost is not brought back", from))
	case quantized || wide && g.DType != weights.F32 || seen[F16] && g.DType == weights.BF16 || seen[BF16] && g.DType == weights.F16:
		g.Notes = append(g.Notes, fmt.Sprintf("the matrices are rounded from %s to %s", from, g.DType))
	}
	return nil
}

// IsFile says whether path begins as a GGUF file does.
func IsFile(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	var magic [4]byte
	n, _ := f.Read(magic[:])
	return n == 4 && string(magic[:]) == "GGUF"
}
