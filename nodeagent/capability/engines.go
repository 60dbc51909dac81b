package capability

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"

	"github.com/tunemesh/tunemesh/api"
)

// probe prints the versions that the engine peft needs, or fails with Python's
// own words.
const probe = `import json,torch,transformers,peft
d=["cpu"]
if torch.cuda.is_available(): d.append("cuda")
if getattr(torch.backends,"mps",None) and torch.backends.mps.is_available(): d.append("mps")
print(json.dumps({"torch":torch.__version__,"peft":peft.__version__,"devices":d}))`

// engines tells what this machine can train with.
func engines(ctx context.Context, c api.Capability) []api.Engine {
	native := api.Engine{Name: "native", Available: true, Devices: []string{"cpu"}}
	return []api.Engine{native, peft(ctx, pythons())}
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
func peft(ctx context.Context, pythons []string) api.Engine {
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
				e.Reason = fmt.Sprintf("torch, transformers and peft cannot be imported: %v", err)
			}
			continue
		}
		if err := describe(&e, out); err != nil {
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

func describe(e *api.Engine, out []byte) error {
	var v struct {
		Torch, Peft string
		Devices     []string
	}
	if err := json.Unmarshal(out, &v); err != nil {
		return fmt.Errorf("its answer cannot be read: %w", err)
	}
	e.Available, e.Reason, e.Devices = true, "", v.Devices
	e.Version = fmt.Sprintf("torch %s, peft %s", v.Torch, v.Peft)
	return nil
}
