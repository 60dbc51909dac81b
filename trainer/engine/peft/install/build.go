package install

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"time"
)

const envPrefix = "env-"

// build makes the environment home/env-HASH, whose name follows from all that
// goes into it, and returns its interpreter. What an interrupted build left is
// continued: packages that are there are not fetched again.
func build(ctx context.Context, home string, o Options) (python, sum string, err error) {
	packages, err := requirements(o.Accelerator, o.Requirements)
	if err != nil {
		return "", "", err
	}
	base, version, err := findPython(ctx, o.Python)
	if err != nil {
		return "", "", err
	}
	o.Say(fmt.Sprintf("python: %s (%s)", base, version))
	sum = digest(packages)
	env := filepath.Join(home, envPrefix+digest([]byte(sum + o.Accelerator + base + version))[:12])
	python = filepath.Join(env, "bin", "python")
	if runtime.GOOS == "windows" {
		python = filepath.Join(env, "Scripts", "python.exe")
	}
	uv, _ := exec.LookPath("uv")
	if _, err := os.Stat(python); err != nil {
		make := []string{base, "-m", "venv", "--clear", env}
		if uv != "" {
			make = []string{uv, "venv", "--clear", "--no-project", "--python", base, env}
		}
		if err := tell(ctx, o, make...); err != nil {
			return "", "", fmt.Errorf("engine install: make the environment: %w", err)
		}
	}
	file := filepath.Join(home, "requirements.txt")
	if err := os.WriteFile(file, packages, 0o644); err != nil {
		return "", "", fmt.Errorf("engine install: %w", err)
	}
	args := []string{python, "-m", "pip", "install", "--disable-pip-version-check", "--require-hashes", "--only-binary", ":all:", "-r", file}
	if uv != "" {
		args = []string{uv, "pip", "install", "--python", python, "--require-hashes", "--only-binary", ":all:", "-r", file}
	}
	if o.IndexURL != "" {
		args = append(args, "--index-url", o.IndexURL)
	}
	o.Say("packages: torch and what it needs are some gigabytes for CUDA on Linux; this takes minutes on a slow line")
	if err := tell(ctx, o, args...); err != nil {
		return "", "", fmt.Errorf("engine install: packages: %w (run the same command again: it goes on where it was)", err)
	}
	return python, sum, nil
}

// findPython returns an interpreter of version 3.10 or newer.
func findPython(ctx context.Context, wanted string) (path, version string, err error) {
	candidates := []string{"python3.13", "python3.12", "python3.11", "python3", "python3.10", "python"}
	if wanted != "" {
		candidates = []string{wanted}
	}
	var seen []string
	for _, name := range candidates {
		found, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		// A shim may stand for no interpreter at all.
		out, err := exec.CommandContext(ctx, found, "-c", "import sys, venv; print(sys.executable); print('%d.%d.%d' % sys.version_info[:3]); sys.exit(sys.version_info < (3, 10))").Output()
		lines := strings.Fields(string(out))
		if err == nil && len(lines) == 2 {
			return lines[0], lines[1], nil
		}
		seen = append(seen, strings.Join(append([]string{found}, lines...), " "))
	}
	switch {
	case wanted != "":
		return "", "", given("name another one with --python", "%s is no Python of version 3.10 or newer with the module venv", wanted)
	case len(seen) > 0:
		return "", "", fmt.Errorf("engine install: Python 3.10 or newer with the module venv is needed, there is %s: install one, or name it with --python", strings.Join(seen, ", "))
	}
	return "", "", errors.New("engine install: no Python was found on the PATH: install Python 3.10 or newer, or name it with --python")
}

// detect finds the accelerator to install for.
func detect() (kind, why string) {
	if runtime.GOOS == "darwin" && runtime.GOARCH == "arm64" {
		return "mps", "an Apple processor"
	}
	for _, c := range []struct{ tool, kind string }{{"nvidia-smi", "cuda"}, {"rocminfo", "rocm"}} {
		if _, err := exec.LookPath(c.tool); err == nil {
			return c.kind, c.tool + " is there"
		}
	}
	return "cpu", "neither nvidia-smi nor rocminfo is there"
}

// tell runs a program and passes its lines on. The last ones go into the error.
func tell(ctx context.Context, o Options, argv ...string) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = 10 * time.Second
	r, w := io.Pipe()
	cmd.Stdout, cmd.Stderr = w, w
	var last []string
	var wait sync.WaitGroup
	wait.Go(func() {
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() {
			if text := strings.TrimSpace(lines.Text()); text != "" {
				o.Say(text)
				last = append(last, text)
				last = last[max(0, len(last)-5):]
			}
		}
		_, _ = io.Copy(io.Discard, r)
	})
	err := cmd.Run()
	_ = w.Close()
	wait.Wait()
	if err != nil {
		return fmt.Errorf("%s: %w: %s", filepath.Base(argv[0]), err, strings.Join(last, " | "))
	}
	return nil
}
