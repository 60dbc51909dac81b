package inference

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/tokenizer"
	"github.com/tunemesh/tunemesh/trainer/tuned"
)

const modelConfig = "config.json" // of a model's folder

// CheckFolders looks at the folders that a person named, before anything is
// loaded: a folder of another kind, or one too high, is the likely mistake, and
// the error says which would be right. It is of the class bad_input.
func CheckFolders(f tuned.Files) error {
	if err := checkModel("base model", f.Base); err != nil {
		return err
	}
	if !has(f.Base, tokenizer.FileName) {
		return misplaced("it comes with the model; a folder that has tokenizer.model in its place can be brought into a mesh with `tunemesh model import`", "the base model %s has no %s", f.Base, tokenizer.FileName)
	}
	if f.Full != "" {
		if err := checkModel("tuned model", f.Full); err != nil {
			return err
		}
	}
	if f.Adapter != "" {
		return checkAdapter(f.Adapter)
	}
	return nil
}

func checkModel(what, dir string) error {
	const layout = "a model's folder has config.json, tokenizer.json and *.safetensors, as Hugging Face has them; a name in a mesh is none"
	if err := checkFolder(what, dir, layout); err != nil {
		return err
	}
	switch {
	case has(dir, modelConfig):
		return nil
	case has(dir, adapter.ConfigName):
		return misplaced("give it with --adapter, and with --model the base model that it was trained on", "the %s %s is an adapter, which needs its base model", what, dir)
	}
	if sub := below(dir, modelConfig); sub != "" {
		return misplaced("did you mean "+sub+"?", "the %s %s has no %s", what, dir, modelConfig)
	}
	return misplaced(layout, "the %s %s has no %s", what, dir, modelConfig)
}

func checkAdapter(dir string) error {
	const layout = "an adapter's folder has " + adapter.ConfigName + " and " + adapter.WeightsName + ", as PEFT writes them"
	if err := checkFolder("adapter", dir, layout); err != nil {
		return err
	}
	switch {
	case has(dir, adapter.ConfigName) && has(dir, adapter.WeightsName):
		return nil
	case has(dir, adapter.ConfigName):
		return misplaced(layout, "the adapter %s has no %s", dir, adapter.WeightsName)
	case has(dir, modelConfig):
		return misplaced("give it with --full if it is a full set of tuned weights, with --model if it is a base model", "%s is a whole model, no adapter", dir)
	}
	if sub := below(dir, adapter.ConfigName); sub != "" {
		return misplaced("did you mean "+sub+"?", "the adapter %s has no %s", dir, adapter.ConfigName)
	}
	return misplaced(layout, "the adapter %s has no %s", dir, adapter.ConfigName)
}

func checkFolder(what, dir, layout string) error {
	switch info, err := os.Stat(dir); {
	case os.IsNotExist(err):
		return misplaced(layout, "there is no folder %s for the %s", dir, what)
	case err != nil:
		return misplaced("check its permissions", "the %s %s cannot be read: %s", what, dir, err)
	case !info.IsDir() && strings.HasSuffix(dir, ".gguf"):
		return misplaced("`tunemesh model import` brings a GGUF file into a mesh, where a job can serve it; "+layout, "the %s %s is a GGUF file, and only folders are served", what, dir)
	case !info.IsDir():
		return misplaced(layout, "the %s %s is a file, and has to be a folder", what, dir)
	}
	return nil
}

func has(dir, name string) bool {
	_, err := os.Stat(filepath.Join(dir, name))
	return err == nil
}

// below is the one folder in dir that has a file of this name, or nothing.
func below(dir, name string) string {
	found, err := filepath.Glob(filepath.Join(dir, "*", name))
	if err != nil || len(found) != 1 {
		return ""
	}
	return filepath.Dir(found[0])
}

func misplaced(hint, format string, args ...any) error {
	return &contract.Error{Class: contract.ClassBadInput, Code: "WRONG_FOLDER", Message: fmt.Sprintf(format, args...), Hint: hint}
}
