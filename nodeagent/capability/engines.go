package capability

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

// Engines tells what this machine can train with; dir is where the agent works,
// or empty.
func Engines(dir string, gpus []api.GPU) []api.Engine {
	native := api.Engine{Name: "native", Available: true, Devices: []string{"cpu"}}
	return []api.Engine{native, peft(contract.EngineFolders(dir), gpus)}
}

// peft reads what the installed environment's manifest says. It starts no Python:
// to import torch takes ten seconds, and an agent asks every few minutes.
func peft(folders []string, gpus []api.GPU) api.Engine {
	e := api.Engine{Name: "peft"}
	m, err := contract.FindEngine(folders, e.Name)
	if err != nil {
		e.Reason = err.Error()
		return e
	}
	e.Available, e.Devices = true, m.Devices
	var versions []string
	for _, name := range []string{"torch", "transformers", "peft"} {
		if v := m.Packages[name]; v != "" {
			versions = append(versions, name+" "+v)
		}
	}
	e.Version = strings.Join(versions, ", ")
	e.Reason = strings.Join(append(slices.Clone(m.Notes), unused(m, gpus)...), "; ")
	return e
}

// unused names accelerators that came after the engine: its torch has not seen
// them.
func unused(m contract.EngineManifest, gpus []api.GPU) []string {
	if len(m.Notes) > 0 { // the installation has said why
		return nil
	}
	for _, g := range gpus {
		// ROCm's torch calls its devices cuda too.
		device := map[string]string{"cuda": "cuda", "rocm": "cuda", "metal": "mps"}[g.Kind]
		if device != "" && !slices.Contains(m.Devices, device) {
			return []string{fmt.Sprintf("%s is not used: the engine was made for %s; run tunemesh engine install peft again", g.Name, m.Accelerator)}
		}
	}
	return nil
}

// StageEnv points the stages of an agent that works in dir to its engines.
func StageEnv(dir string) string {
	return contract.EnvEngines + "=" + strings.Join(contract.EngineFolders(dir), string(filepath.ListSeparator))
}
