package install

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
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
			return nil, given("--requirements names a file of pinned and hashed packages", "%s cannot be read: %s", file, innermost(err))
		}
		if !strings.Contains(string(data), "--hash=") {
			return nil, given("make them with `uv pip compile --generate-hashes`", "the requirements %s carry no hashes", file)
		}
		return data, nil
	}
	if accelerator == "rocm" {
		return nil, given("give --requirements FILE with hashes made from PyTorch's ROCm index, and its --index-url (docs/engines.md)", "PyPI has no ROCm build of torch, so none is pinned here")
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
