package gguf

import (
	"fmt"
	"os"
)

// Supported looks at the beginning of a GGUF file, which may end anywhere, and refuses it for
// what stands there: its architecture, its vocabulary. nil means that nothing speaks against
// the file so far.
func Supported(path string) error {
	file, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("gguf: open: %w", err)
	}
	defer file.Close()
	st, err := file.Stat()
	if err != nil {
		return fmt.Errorf("gguf: open: %w", err)
	}
	f, _, err := readMetadata(newHead(file, st.Size()))
	if f == nil {
		return fmt.Errorf("gguf: %s: %w", path, err)
	}
	m := metadata{f}
	if err := m.split(); err != nil {
		return fmt.Errorf("gguf: %s: %w", path, err)
	}
	if has(m, "general.architecture") {
		if _, err := m.family(); err != nil {
			return fmt.Errorf("gguf: %s: %w", path, advised(err))
		}
	}
	// Converters write the two keys before the list of tokens, in this order or the other.
	if has(m, "tokenizer.ggml.model") && has(m, "tokenizer.ggml.pre") {
		if _, err := m.vocabularyKind(); err != nil {
			return fmt.Errorf("gguf: %s: %w", path, advised(err))
		}
	}
	return nil
}

// advised adds what can be done about a file that is not imported.
func advised(err error) error {
	return fmt.Errorf("%w; choose another model, or, if its folder with config.json is one that is imported, take that", err)
}
