//go:build linux || darwin

package launcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// lookPath finds the program as the command's own environment names it, not as
// the shim's does.
func lookPath(spec Spec) (string, error) {
	name := spec.Argv[0]
	if strings.ContainsRune(name, '/') {
		return name, nil
	}
	var list string
	for _, kv := range spec.Env {
		if v, ok := strings.CutPrefix(kv, "PATH="); ok {
			list = v
		}
	}
	for _, dir := range filepath.SplitList(list) {
		if !filepath.IsAbs(dir) {
			continue
		}
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 {
			return path, nil
		}
	}
	return "", fmt.Errorf("start %s: %w in PATH %q", name, exec.ErrNotFound, list)
}

// takeClaim writes a claim unless there is one.
func takeClaim(dir string, c claim) error {
	tmp, err := os.CreateTemp(dir, ".claim-*")
	if err != nil {
		return fmt.Errorf("claim %s: %w", dir, err)
	}
	defer os.Remove(tmp.Name())
	if err := fill(tmp, c); err != nil {
		return fmt.Errorf("claim %s: %w", dir, err)
	}
	if err := os.Link(tmp.Name(), filepath.Join(dir, claimFile)); err != nil {
		return fmt.Errorf("claim %s: %w", dir, err)
	}
	return syncDir(dir)
}

func readClaim(dir string) (claim, error) {
	var c claim
	data, err := os.ReadFile(filepath.Join(dir, claimFile))
	if err != nil {
		return c, err
	}
	if err := json.Unmarshal(data, &c); err != nil {
		return c, fmt.Errorf("launcher: %s: %w", filepath.Join(dir, claimFile), err)
	}
	return c, nil
}

func readExit(dir string) (Exit, bool, error) {
	var e Exit
	data, err := os.ReadFile(filepath.Join(dir, exitFile))
	if errors.Is(err, fs.ErrNotExist) {
		return e, false, nil
	}
	if err != nil {
		return e, false, fmt.Errorf("launcher: exit record: %w", err)
	}
	if err := json.Unmarshal(data, &e); err != nil {
		return e, false, fmt.Errorf("launcher: exit record in %s: %w", dir, err)
	}
	return e, true, nil
}

// writeJSON replaces a file so that a reader, also one after a power cut, sees
// the old one or all of the new one.
func writeJSON(path string, v any) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return fmt.Errorf("launcher: write %s: %w", path, err)
	}
	defer os.Remove(tmp.Name())
	if err := fill(tmp, v); err != nil {
		return fmt.Errorf("launcher: write %s: %w", path, err)
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return fmt.Errorf("launcher: write %s: %w", path, err)
	}
	return syncDir(filepath.Dir(path))
}

func fill(f *os.File, v any) error {
	err := json.NewEncoder(f).Encode(v)
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
