package gguf

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/tunemesh/tunemesh/trainer/template"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// Options of an export.
type Options struct {
	Type         string // of the matrices: "F16" (default), "BF16", "F32", "Q8_0" or "Q4_K_M"
	Name         string // general.name; default the folder's name
	ChatTemplate string // Jinja; default the folder's own, if any
	// Progress, if set, hears of the bytes of tensors that have been written.
	Progress func(bytes int64)
}

// Export writes the model in the Hugging Face folder modelDir (config.json,
// safetensors, tokenizer.json) to the file out, atomically. It needs memory for some
// rows of a tensor and for the vocabulary, and uses all cores. Architectures: Llama,
// Mistral, Qwen2, Qwen3 and Gemma 3 (text); a property that llama.cpp would compute
// differently is refused.
func Export(ctx context.Context, modelDir, out string, opts Options) error {
	if err := export(ctx, modelDir, out, opts); err != nil {
		return fmt.Errorf("gguf: export %s: %w", modelDir, err)
	}
	return nil
}

// Exportable says why the model in a Hugging Face folder cannot be exported, before
// anyone has trained it for hours; nil if it can. It reads no weights.
func Exportable(modelDir string) error {
	p, err := planExport(modelDir, Options{})
	if err != nil {
		return fmt.Errorf("gguf: export %s: %w", modelDir, err)
	}
	return p.src.Close()
}

// exportPlan is all that is known before the weights are read.
type exportPlan struct {
	src      *weights.File // to be closed
	jobs     []job
	arch     string
	metadata []KV // without the general ones
	fileType uint32
}

func planExport(dir string, opts Options) (*exportPlan, error) {
	config, err := readConfig(dir)
	if err != nil {
		return nil, err
	}
	formats, err := opts.mix(config.Layers, config.Tied)
	if err != nil {
		return nil, err
	}
	tok, err := tokenizer.Load(dir)
	if err != nil {
		return nil, err
	}
	jinja, eos, err := template.Source(dir)
	if err != nil {
		return nil, err
	}
	if opts.ChatTemplate != "" {
		jinja = opts.ChatTemplate
	}
	vocab, err := vocabMetadata(tok, config, eos, jinja)
	if err != nil {
		return nil, err
	}
	src, err := weights.Open(dir)
	if err != nil {
		return nil, err
	}
	jobs, err := config.jobs(src, formats)
	if err != nil {
		src.Close()
		return nil, err
	}
	return &exportPlan{src, jobs, config.family.name, append(config.metadata(), vocab...), formats.fileType}, nil
}

func export(ctx context.Context, dir, out string, opts Options) error {
	p, err := planExport(dir, opts)
	if err != nil {
		return err
	}
	defer p.src.Close()
	name := opts.Name
	if name == "" {
		if abs, err := filepath.Abs(dir); err == nil {
			name = filepath.Base(abs)
		}
	}
	metadata := append([]KV{
		{"general.architecture", p.arch},
		{"general.type", "model"},
		{"general.name", name},
		{"general.file_type", p.fileType},
		{"general.quantization_version", uint32(2)}, // GGML_QNT_VERSION
	}, p.metadata...)
	infos := make([]TensorInfo, len(p.jobs))
	for i, j := range p.jobs {
		infos[i] = j.info
	}
	w, err := NewWriter(out, metadata, infos)
	if err != nil {
		return err
	}
	defer w.Abort()
	done := int64(0)
	for _, j := range p.jobs {
		if err := j.write(ctx, w, p.src); err != nil {
			return err
		}
		p.src.Release(j.source)
		if opts.Progress != nil {
			n, _ := j.info.Bytes() // the writer has seen that it is right
			done += n
			opts.Progress(done)
		}
	}
	return w.Close()
}
