package install

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
)

//go:embed requirements/*.txt
var pinned embed.FS

// requirements returns the pinned packages for an accelerator, or those of the
// user's own file, which must be hashed too.
func requirements(accelerator, file string) ([]byte, error) {
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("requirements: %w", err)
		}
		if !strings.Contains(string(data), "--hash=") {
			return nil, fmt.Errorf("requirements %s carry no hashes: make them with uv pip compile --generate-hashes", file)
		}
		return data, nil
	}
	if accelerator == "rocm" {
		return nil, errors.New("PyPI has no ROCm build of torch, so none is pinned here: give --requirements FILE with hashes made from PyTorch's ROCm index, and its --index-url (docs/engines.md)")
	}
	data, err := pinned.ReadFile("requirements/peft.txt")
	if err != nil {
		return nil, fmt.Errorf("requirements: %w", err)
	}
	return data, nil
}

func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
