package install

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
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
// it goes on; repeated on a whole environment it verifies it again.
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
	} else if m.Python, err = filepath.Abs(o.Existing); err != nil {
		return m, fmt.Errorf("engine install: %w", err)
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

// Remove deletes the engine: the manifest first, so that nothing starts what is
// being deleted.
func Remove(dir string) error {
	home := filepath.Join(dir, engine.PEFT)
	if _, err := os.Stat(home); err != nil {
		return fmt.Errorf("engine remove: %s is not installed in %s", engine.PEFT, dir)
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
