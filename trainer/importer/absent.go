package importer

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/weights"
)

const adapterConfigName = "adapter_config.json"

// readConfig reads config.json, or says what the folder is that has none.
func readConfig(dir string) ([]byte, error) {
	raw, err := readSmall(filepath.Join(dir, configName))
	if !errors.Is(err, fs.ErrNotExist) {
		return raw, err
	}
	if there(dir, adapterConfigName) {
		return nil, adapterFault(dir)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*.gguf")); len(files) > 0 {
		return nil, fmt.Errorf("the folder has no %s, but %s: give that file and not its folder", configName, filepath.Base(files[0]))
	}
	for _, depth := range []string{"*", "*/*"} { // as the hub's own cache has it: snapshots/COMMIT
		if files, _ := filepath.Glob(filepath.Join(dir, filepath.FromSlash(depth), configName)); len(files) > 0 {
			if inner, err := filepath.Rel(dir, filepath.Dir(files[0])); err == nil {
				return nil, fmt.Errorf("the folder has no %s, but %s in it has: give that folder", configName, inner)
			}
		}
	}
	return nil, fmt.Errorf("the folder has no %s: it is no Hugging Face model; give the folder that holds it, or a GGUF file", configName)
}

func there(dir, name string) bool { _, err := os.Stat(filepath.Join(dir, name)); return err == nil }

// adapterFault says which model an adapter is of.
func adapterFault(dir string) error {
	var c struct {
		Base string `json:"base_model_name_or_path"`
	}
	advice := "import its base model, and tune that"
	raw, err := readSmall(filepath.Join(dir, adapterConfigName))
	if err == nil && json.Unmarshal(raw, &c) == nil && c.Base != "" {
		advice = fmt.Sprintf("import its base model %s, and tune that", c.Base)
		if strings.Count(c.Base, "/") == 1 && !strings.HasPrefix(c.Base, "/") && !strings.HasPrefix(c.Base, ".") {
			advice += ": tunemesh model pull hf:" + c.Base
		}
	}
	return &UnsupportedError{fmt.Errorf("the folder is a PEFT adapter, not a whole model; %s", advice)}
}

// hasWeights says which file is missing, and what to do if another stands for it.
func hasWeights(dir string) error {
	if there(dir, weights.SingleName) || there(dir, weights.IndexName) {
		return nil
	}
	for _, name := range []string{"pytorch_model.bin", "pytorch_model.bin.index.json"} {
		if there(dir, name) {
			return &UnsupportedError{fmt.Errorf("the weights are pickled (%s), which can run code when it is read; save them as safetensors with save_pretrained(DIR, safe_serialization=True)", name)}
		}
	}
	if there(dir, adapterConfigName) {
		return adapterFault(dir)
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*.safetensors"))
	switch {
	case len(files) > 1:
		return fmt.Errorf("the folder has %d files of weights (%s), but no %s, which says what is in them; fetch or copy that too", len(files), filepath.Base(files[0])+", ...", weights.IndexName)
	case len(files) == 1:
		return fmt.Errorf("the folder has %s, but neither %s nor %s; if it is the whole of the weights, rename it to the first", filepath.Base(files[0]), weights.SingleName, weights.IndexName)
	}
	return fmt.Errorf("the folder has neither %s nor %s; fetch or copy the weights too", weights.SingleName, weights.IndexName)
}
