package peft_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// The Python side's own tests: what it does on other devices, with a torch that claims
// to have them, and steps on the CPU in the precisions of a card.
func TestThePythonSide(t *testing.T) {
	python := installed(t).Python
	root, err := filepath.Abs("../../trainer/engine/peft/python")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(root, "tests", "test_*.py"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests in %s: %v", root, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), python, file)
			cmd.Env = append(os.Environ(), "PYTHONPATH="+root, "PYTHONDONTWRITEBYTECODE=1", "HF_HUB_OFFLINE=1")
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, tail(string(out)))
			}
		})
	}
}
