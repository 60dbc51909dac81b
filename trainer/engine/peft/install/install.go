package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/engine"
)

// Options of an installation. Only Dir is required.
type Options struct {
	// Dir holds the engines of a node; the environment goes below Dir/peft.
	Dir string
	// Python is the interpreter to make the environment from, 3.10 or newer; found
	// on the PATH if empty.
	Python string
	// Existing is the interpreter of an environment to use as it is: nothing is
	// installed, it is verified only.
	Existing string
	// IndexURL replaces PyPI, for a mirror.
	IndexURL string
	// Accelerator is auto, cpu, cuda, rocm or mps.
	Accelerator string
	// Requirements replaces the pinned packages.
	Requirements string
	// Say takes a line for each step and what pip or uv prints.
	Say func(line string)
	Now func() time.Time
}

// Install makes the environment and verifies it. Repeated after an interruption
// it goes on; repeated on a whole environment it verifies it again. What is wrong
// with the options is a *contract.Error.
func Install(ctx context.Context, o Options) (contract.EngineManifest, error) {
	if o.Say == nil {
		o.Say = func(string) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	home := filepath.Join(o.Dir, engine.PEFT)
	if err := os.MkdirAll(home, 0o755); err != nil {
		return contract.EngineManifest{}, fmt.Errorf("engine install: %w", err)
	}
	unlock, err := lock(filepath.Join(home, ".lock"))
	if err != nil {
		return contract.EngineManifest{}, err
	}
	defer unlock()
	if o.Accelerator == "" || o.Accelerator == "auto" {
		var why string
		o.Accelerator, why = detect()
		o.Say(fmt.Sprintf("accelerator: %s (%s)", o.Accelerator, why))
	}
	m := contract.EngineManifest{Version: contract.EngineVersion, Engine: engine.PEFT, Accelerator: o.Accelerator, Python: o.Existing}
	if o.Existing == "" {
		if m.Python, m.Requirements, err = build(ctx, home, o); err != nil {
			return m, err
		}
	} else if m.Python, err = existing(o.Existing); err != nil {
		return m, err
	}
	if err := verify(ctx, home, &m, o); err != nil {
		return m, err
	}
	m.InstalledAt = o.Now().UTC()
	if err := write(filepath.Join(home, contract.EngineFile), m); err != nil {
		return m, err
	}
	return m, sweep(home, m.Python)
}

// existing finds a user's own interpreter: a path, or a name on the PATH. A link
// is left as it is: that of an environment tells Python where its packages are.
func existing(program string) (string, error) {
	found, err := exec.LookPath(program)
	if err != nil && !errors.Is(err, exec.ErrDot) {
		return "", given("name the Python of the environment: DIR/bin/python", "%s is no program that can be started: %s", program, innermost(err))
	}
	path, err := filepath.Abs(found)
	if err != nil {
		return "", fmt.Errorf("engine install: %w", err)
	}
	return path, nil
}

// given is a fault of what the user gave.
func given(hint, format string, args ...any) error {
	return &contract.Error{Class: contract.ClassBadInput, Code: "WRONG_OPTION", Message: fmt.Sprintf(format, args...), Hint: hint}
}

// innermost leaves out the operation and the path, which the message names.
func innermost(err error) error {
	var program *exec.Error
	if errors.As(err, &program) {
		err = program.Err
	}
	var file *fs.PathError
	if errors.As(err, &file) {
		err = file.Err
	}
	return err
}

// Remove deletes the engine: the manifest first, so that nothing starts what is
// being deleted.
func Remove(dir string) error {
	home := filepath.Join(dir, engine.PEFT)
	if _, err := os.Stat(home); err != nil {
		return given("name the agent's folder with --data-dir; `tunemesh engine list` tells what is installed", "%s is not installed in %s", engine.PEFT, dir)
	}
	unlock, err := lock(filepath.Join(home, ".lock"))
	if err != nil {
		return err
	}
	err = os.Remove(filepath.Join(home, contract.EngineFile))
	unlock()
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("engine remove: %w", err)
	}
	if err := os.RemoveAll(home); err != nil {
		return fmt.Errorf("engine remove: %w", err)
	}
	return nil
}

// write puts the manifest in its place at once.
func write(path string, m contract.EngineManifest) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("engine install: %w", err)
	}
	tmp := path + ".tmp"
	f, err := os.Create(tmp)
	if err != nil {
		return fmt.Errorf("engine install: %w", err)
	}
	_, err = f.Write(append(data, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("engine install: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("engine install: %w", err)
	}
	return nil
}

// sweep deletes the environments that the manifest no longer names.
func sweep(home, python string) error {
	entries, err := os.ReadDir(home)
	if err != nil {
		return fmt.Errorf("engine install: %w", err)
	}
	for _, e := range entries {
		path := filepath.Join(home, e.Name())
		if !strings.HasPrefix(e.Name(), envPrefix) || strings.HasPrefix(python, path+string(filepath.Separator)) {
			continue
		}
		if err := os.RemoveAll(path); err != nil {
			return fmt.Errorf("engine install: delete the environment before: %w", err)
		}
	}
	return nil
}
