package gguf

import (
	"context"
	"errors"
)

// Options of an export.
type Options struct {
	Type         string // of the matrices: "F16" (default), "BF16", "F32" or "Q8_0"
	Name         string // general.name; default the folder's name
	ChatTemplate string // Jinja; default that of tokenizer_config.json, if any
}

// Export writes the model in the Hugging Face folder modelDir (config.json,
// safetensors, tokenizer.json) to the file out, atomically.
func Export(ctx context.Context, modelDir, out string, opts Options) error {
	return errors.New("gguf: not built yet")
}
