package capability_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/nodeagent/capability"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

func TestThisMachineIsDescribed(t *testing.T) {
	c := capability.Detect(t.Context(), t.TempDir())
	if c.OS != runtime.GOOS || c.Arch != runtime.GOARCH || c.CPU.Model == "" || c.CPU.Cores < 1 || c.CPU.Cores > runtime.NumCPU() {
		t.Errorf("processor: %+v", c)
	}
	if c.MemoryBytes < 64<<20 || c.DiskBytes <= 0 {
		t.Errorf("memory %d, disk %d", c.MemoryBytes, c.DiskBytes)
	}
	if !c.HasEngine("native") {
		t.Error("the native engine runs everywhere")
	}
	for _, e := range c.Engines {
		if !e.Available && e.Reason == "" {
			t.Errorf("engine %s is not available and nobody says why", e.Name)
		}
	}
	for _, g := range c.GPUs {
		if g.Name == "" || g.Kind == "" || g.MemoryBytes <= 0 {
			t.Errorf("gpu %+v", g)
		}
	}
	t.Logf("%+v", c)
}

// A processor with AVX2 tells so: kernels are chosen by it.
func TestInstructionSetsAreThoseOfTheKernel(t *testing.T) {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err != nil || runtime.GOARCH != "amd64" {
		t.Skip("needs /proc/cpuinfo of an x86 processor to compare with")
	}
	_, flags, _ := strings.Cut(string(data), "flags")
	flags, _, _ = strings.Cut(flags, "\n")
	kernel := strings.Fields(flags)
	features := capability.Detect(t.Context(), t.TempDir()).CPU.Features
	for ours, theirs := range map[string]string{"avx": "avx", "avx2": "avx2", "fma": "fma", "f16c": "f16c", "sse4.2": "sse4_2", "avx512f": "avx512f", "avx512bw": "avx512bw", "avx512_vnni": "avx512_vnni"} {
		if slices.Contains(features, ours) != slices.Contains(kernel, theirs) {
			t.Errorf("%s: we say %v, the kernel says %v", ours, slices.Contains(features, ours), slices.Contains(kernel, theirs))
		}
	}
}

func TestTheDigestChangesWithTheMachineAndNotWithItsLoad(t *testing.T) {
	c := api.Capability{OS: "linux", MemoryBytes: 1 << 30, DiskBytes: 5, GPUs: []api.GPU{{Name: "a", MemoryBytes: 10, MemoryFreeBytes: 7}}}
	base := capability.Digest(c)
	busy := c
	busy.DiskBytes = 4
	busy.GPUs = []api.GPU{{Name: "a", MemoryBytes: 10, MemoryFreeBytes: 1}}
	if capability.Digest(busy) != base {
		t.Error("load changes the digest")
	}
	if c.GPUs[0].MemoryFreeBytes != 7 {
		t.Error("the document was changed")
	}
	other := c
	other.MemoryBytes++
	if capability.Digest(other) == base || len(base) != 64 {
		t.Error("another machine has the same digest")
	}
}

// A machine with an environment for peft, one with a half-made or a vanished one, and
// one without: each says which it is.
func TestPeftIsAvailableOnlyWhereItIsInstalledWhole(t *testing.T) {
	python := filepath.Join(t.TempDir(), "python")
	if err := os.WriteFile(python, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	manifest := func(m contract.EngineManifest) string {
		m.Version, m.Engine, m.Accelerator = contract.EngineVersion, "peft", "cpu"
		m.Packages = map[string]string{"torch": "2.9.0", "peft": "0.18.0"}
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for name, c := range map[string]struct {
		file      string
		available bool
		want      string
	}{
		"none":         {"", false, "not installed: run tunemesh engine install peft"},
		"whole":        {manifest(contract.EngineManifest{Python: python, Devices: []string{"cpu"}}), true, "torch 2.9.0, peft 0.18.0"},
		"no CUDA":      {manifest(contract.EngineManifest{Python: python, Devices: []string{"cpu"}, Notes: []string{"torch sees no CUDA device: old driver"}}), true, "old driver"},
		"old packages": {manifest(contract.EngineManifest{Python: python, Devices: []string{"cpu"}, Notes: []string{"no quantised base: bitsandbytes: No module named bitsandbytes"}}), true, "no quantised base"},
		"no python":    {manifest(contract.EngineManifest{Python: "python", Devices: []string{"cpu"}}), false, "lacks engine or python"},
		"gone":         {manifest(contract.EngineManifest{Python: python + "x", Devices: []string{"cpu"}}), false, "its environment is gone"},
		"broken":       {"{", false, "engine manifest"},
		"newer":        {`{"version":99,"engine":"peft","python":"/x"}`, false, "version 99"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			t.Setenv(contract.EnvEngines, "")
			t.Setenv("HOME", t.TempDir())
			// What an installation leaves before its end counts for nothing.
			if err := os.MkdirAll(filepath.Join(dir, "engines", "peft", "env-0", "bin"), 0o755); err != nil {
				t.Fatal(err)
			}
			if c.file != "" {
				if err := os.WriteFile(filepath.Join(dir, "engines", "peft", contract.EngineFile), []byte(c.file), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			engines := capability.Engines(dir, nil)
			i := slices.IndexFunc(engines, func(e api.Engine) bool { return e.Name == "peft" })
			if e := engines[i]; e.Available != c.available || !strings.Contains(e.Reason+e.Version, c.want) {
				t.Errorf("%+v, want %v %q", e, c.available, c.want)
			}
		})
	}
}

// A card that came after the engine, or that its torch was not made for, is named with
// what to do.
func TestACardThatTheEngineHasNotSeenIsNamed(t *testing.T) {
	dir := t.TempDir()
	t.Setenv(contract.EnvEngines, "")
	t.Setenv("HOME", t.TempDir())
	python := filepath.Join(dir, "python")
	if err := os.WriteFile(python, nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "engines", "peft"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		kind    string
		devices []string
		want    string
	}{
		{"cuda", []string{"cpu"}, "Card is not used: the engine was made for cpu; run tunemesh engine install peft again"},
		{"rocm", []string{"cpu"}, "Card is not used"},
		{"metal", []string{"cpu"}, "Card is not used"},
		{"cuda", []string{"cpu", "cuda"}, ""},
		{"rocm", []string{"cpu", "cuda"}, ""}, // ROCm's torch calls its devices cuda
		{"metal", []string{"cpu", "mps"}, ""},
	} {
		m := contract.EngineManifest{Version: contract.EngineVersion, Engine: "peft", Accelerator: "cpu", Python: python, Devices: c.devices}
		data, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "engines", "peft", contract.EngineFile), data, 0o644); err != nil {
			t.Fatal(err)
		}
		engines := capability.Engines(dir, []api.GPU{{Kind: c.kind, Name: "Card"}})
		i := slices.IndexFunc(engines, func(e api.Engine) bool { return e.Name == "peft" })
		if e := engines[i]; !e.Available || (c.want == "") != (e.Reason == "") || !strings.Contains(e.Reason, c.want) {
			t.Errorf("%s over %v: %+v, want %q", c.kind, c.devices, e, c.want)
		}
	}
}
