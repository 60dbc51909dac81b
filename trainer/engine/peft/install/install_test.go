package install_test

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/engine/peft/install"
)

// fakePython stands for an interpreter: it tells its version, makes a "venv" which
// holds a copy of itself, and does with packages what the body says.
func fakePython(t *testing.T, body string) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("the stand-in is a shell script")
	}
	path := filepath.Join(t.TempDir(), "python")
	script := `#!/bin/sh
case "$1 $2" in
"-c import sys, venv"*) echo "$0"; echo 3.11.7; exit 0 ;;
"-m venv") for dir; do :; done; mkdir -p "$dir/bin" && cp "$0" "$dir/bin/python"; exit 0 ;;
esac
` + body
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func installed(dir string) error {
	_, err := contract.FindEngine([]string{dir}, "peft")
	return err
}

// Whatever goes wrong between the first step and the last, nothing counts as an
// engine.
func TestAHalfMadeEnvironmentIsNoEngine(t *testing.T) {
	t.Setenv("PATH", "/usr/bin:/bin") // no uv
	for name, c := range map[string]struct{ body, want string }{
		"a package with another hash": {`echo "THESE PACKAGES DO NOT MATCH THE HASHES" >&2; exit 1`, "DO NOT MATCH THE HASHES"},
		"torch cannot be imported":    {`[ "$1" = -m ] && exit 0; echo "ImportError: libcublas.so" >&2; exit 1`, "ImportError: libcublas.so"},
		"an answer that is none":      {`[ "$1" = -m ] && exit 0; echo hello`, "cannot be read"},
		"no step of training":         {`[ "$1" = -c ] && { echo '{"devices":["cpu"],"packages":{"torch":"9"}}'; exit 0; }; [ "$2" = pip ] && exit 0; echo "No module named torch" >&2; exit 1`, "No module named torch"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			_, err := install.Install(t.Context(), install.Options{Dir: dir, Python: fakePython(t, c.body), Accelerator: "cpu"})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if installed(dir) == nil {
				t.Error("it counts as installed")
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "peft", ".verify-*")); len(left) > 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

// The packages are asked for by hash, and a second try does not make the environment
// anew.
func TestAnInterruptedInstallationGoesOn(t *testing.T) {
	t.Setenv("PATH", "/usr/bin:/bin")
	dir := t.TempDir()
	log := filepath.Join(t.TempDir(), "log")
	python := fakePython(t, `echo "$@" >> `+log+`; echo "connection reset" >&2; exit 1`)
	for range 2 {
		if _, err := install.Install(t.Context(), install.Options{Dir: dir, Python: python, Accelerator: "cpu", IndexURL: "https://pypi.example.org/simple"}); err == nil || !strings.Contains(err.Error(), "goes on") {
			t.Fatalf("error %v", err)
		}
	}
	envs, _ := filepath.Glob(filepath.Join(dir, "peft", "env-*"))
	if len(envs) != 1 {
		t.Errorf("environments %v, want the one of both tries", envs)
	}
	asked, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(asked); strings.Count(got, "--require-hashes") != 2 || !strings.Contains(got, "--index-url https://pypi.example.org/simple") {
		t.Errorf("asked pip %q", got)
	}
	if err := install.Remove(dir); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left %v", left)
	}
}

func TestWhatCannotBeInstalledIsSaidAtOnce(t *testing.T) {
	unhashed := filepath.Join(t.TempDir(), "requirements.txt")
	if err := os.WriteFile(unhashed, []byte("torch==2.9.0\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		o    install.Options
		want string
	}{
		"ROCm without a file":  {install.Options{Accelerator: "rocm"}, "PyPI has no ROCm build of torch"},
		"no hashes":            {install.Options{Accelerator: "cpu", Requirements: unhashed}, "carry no hashes"},
		"no requirements":      {install.Options{Accelerator: "cpu", Requirements: "/no/such/file"}, "/no/such/file cannot be read: no such file or directory"},
		"no such Python":       {install.Options{Accelerator: "cpu", Python: "no-such-python"}, "no-such-python is no Python of version 3.10"},
		"no environment":       {install.Options{Accelerator: "cpu", Existing: "/no/such/python"}, "/no/such/python is no program that can be started: no such file or directory"},
		"a file for a program": {install.Options{Accelerator: "cpu", Existing: unhashed}, "is no program that can be started: permission denied"},
	} {
		c.o.Dir = t.TempDir()
		var fault *contract.Error
		if _, err := install.Install(t.Context(), c.o); !errors.As(err, &fault) || !strings.Contains(fault.Message, c.want) || fault.Hint == "" {
			t.Errorf("%s: %v, want %q and what to do", name, err, c.want)
		}
		if installed(c.o.Dir) == nil {
			t.Errorf("%s: counts as installed", name)
		}
	}
	if err := install.Remove(t.TempDir()); err == nil {
		t.Error("removed what was not there")
	}
}
