package ollama

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// serviceStore is where the service of Ollama's Linux installer keeps models: in the home
// folder of the user ollama (ollama, scripts/install.sh and docs/faq.md).
const serviceStore = "/usr/share/ollama/.ollama/models"

// Stores lists where Ollama's models may be, in the order in which they are looked through:
// $OLLAMA_MODELS, .ollama/models in the home folder (macOS, Windows, an Ollama that the user
// started), on Linux the place of the service.
func Stores(getenv func(string) string) []string {
	var out []string
	if dir := getenv("OLLAMA_MODELS"); dir != "" {
		out = append(out, dir)
	}
	if home, err := os.UserHomeDir(); err == nil {
		out = append(out, filepath.Join(home, ".ollama", "models"))
	}
	if runtime.GOOS == "linux" {
		out = append(out, serviceStore)
	}
	return out
}

// lookUp reads a model's manifest in the first store that has it. A store that may not be
// read is passed over as long as another one has the model.
func lookUp(stores []string, model, manifest string) (store, file string, raw []byte, err error) {
	var closed error
	for _, dir := range stores {
		file := filepath.Join(dir, "manifests", manifest)
		raw, err := readText(file)
		switch {
		case err == nil:
			return dir, file, raw, nil
		case errors.Is(err, fs.ErrPermission):
			closed = cmp.Or(closed, denied(dir, err))
		case !errors.Is(err, fs.ErrNotExist):
			return dir, file, nil, err
		}
	}
	if closed != nil {
		return "", "", nil, closed
	}
	var there []string
	for _, dir := range stores {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			there = append(there, dir+contents(dir))
		}
	}
	if len(there) == 0 {
		return "", "", nil, fmt.Errorf("no models of Ollama's are on this machine, neither in %s; name their folder with OLLAMA_MODELS, or fetch the model with: ollama pull %s",
			strings.Join(stores, " nor in "), model)
	}
	return "", "", nil, fmt.Errorf("there is no %s in %s; fetch it with: ollama pull %s", model, strings.Join(there, " nor in "), model)
}

// denied says of an error of reading a store, if it is that, that this user may not.
func denied(store string, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return fmt.Errorf("this user may not read Ollama's models in %s (%w); run the command with sudo, or, where Ollama is a service of Linux, join its group: sudo usermod -aG ollama $USER, then log in again", store, err)
}

// contents names some of the models that a store has.
func contents(dir string) string {
	paths, _ := filepath.Glob(filepath.Join(dir, "manifests", "registry.ollama.ai", "library", "*", "*"))
	var names []string
	for _, p := range paths[:min(len(paths), 10)] {
		names = append(names, filepath.Base(filepath.Dir(p))+":"+filepath.Base(p))
	}
	if len(names) == 0 {
		return ""
	}
	return " (which has " + strings.Join(names, ", ") + ")"
}
