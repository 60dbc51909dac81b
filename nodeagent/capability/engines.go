package capability

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/api"
)

// probe prints the versions of what the engine peft needs, or fails with
// Python's own words. It asks for what is installed and imports nothing: to
// import torch takes ten seconds on a cold disk.
const probe = `import json
from importlib.metadata import version
print(json.dumps({n: version(n) for n in ("torch", "transformers", "peft")}))`

// engines tells what this machine can train with.
func engines(ctx context.Context, c api.Capability) []api.Engine {
	native := api.Engine{Name: "native", Available: true, Devices: []string{"cpu"}}
	return []api.Engine{native, peft(ctx, pythons(), c)}
}

// pythons are the interpreters to look into, best first: an activated
// environment, then what is on the PATH.
func pythons() []string {
	var list []string
	for _, env := range []string{"VIRTUAL_ENV", "CONDA_PREFIX"} {
		if dir := os.Getenv(env); dir != "" {
			if runtime.GOOS == "windows" {
				list = append(list, filepath.Join(dir, "Scripts", "python.exe"))
			} else {
				list = append(list, filepath.Join(dir, "bin", "python"))
			}
		}
	}
	return append(list, "python3", "python")
}

// peft looks for an environment with PyTorch, transformers and peft.
func peft(ctx context.Context, pythons []string, c api.Capability) api.Engine {
	e := api.Engine{Name: "peft"}
	seen := false
	for _, python := range slices.Compact(pythons) {
		out, found, err := ask(ctx, python, "-c", probe)
		if !found {
			continue
		}
		seen = true
		if err != nil {
			if e.Reason == "" {
				e.Reason = fmt.Sprintf("torch, transformers and peft are needed: %v", err)
			}
			continue
		}
		if err := describe(&e, out, c); err != nil {
			e.Reason = fmt.Sprintf("%s: %v", python, err)
			continue
		}
		return e
	}
	if !seen {
		e.Reason = "no Python was found: it needs one with torch, transformers and peft"
	}
	return e
}

func describe(e *api.Engine, out []byte, c api.Capability) error {
	var v struct{ Torch, Peft string }
	if err := json.Unmarshal(out, &v); err != nil {
		return fmt.Errorf("its answer cannot be read: %w", err)
	}
	e.Available, e.Reason, e.Devices = true, "", []string{"cpu"}
	e.Version = fmt.Sprintf("torch %s, peft %s", v.Torch, v.Peft)
	for _, g := range c.GPUs {
		device := map[string]string{"cuda": "cuda", "rocm": "cuda", "metal": "mps"}[g.Kind]
		// "2.9.0+cpu" is a build that knows no accelerator.
		if device != "" && !slices.Contains(e.Devices, device) && !strings.HasSuffix(v.Torch, "+cpu") {
			e.Devices = append(e.Devices, device)
		}
	}
	return nil
}
