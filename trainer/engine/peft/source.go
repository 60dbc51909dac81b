package peft

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

//go:embed python/tunemesh_peft/*.py
var source embed.FS

// unpack writes the Python package into dir, for PYTHONPATH.
func unpack(dir string) error {
	files, err := fs.Glob(source, "python/tunemesh_peft/*.py")
	if err != nil {
		return fmt.Errorf("engine peft: %w", err)
	}
	target := filepath.Join(dir, "tunemesh_peft")
	if err := os.MkdirAll(target, 0o755); err != nil {
		return fmt.Errorf("engine peft: %w", err)
	}
	for _, name := range files {
		data, err := source.ReadFile(name)
		if err != nil {
			return fmt.Errorf("engine peft: %w", err)
		}
		if err := os.WriteFile(filepath.Join(target, filepath.Base(name)), data, 0o644); err != nil {
			return fmt.Errorf("engine peft: %w", err)
		}
	}
	return nil
}
