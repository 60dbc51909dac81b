package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/nodeagent/capability"
)

// Statuses of a finding.
const (
	statusOK      = "ok"
	statusWarning = "warning"
	statusFailed  = "failed"
)

// Bounds of the checks of the machine.
const (
	diskFew, diskLittle = 2 << 30, 20 << 30
	memoryFew           = 2 << 30
	stepSlow            = 200 // tokens/s below which a training takes days
)

// examiner is what doctor looks at. Its functions are those of the machine;
// tests put others in their place.
type examiner struct {
	dir     string // of the agent; need not exist yet
	servers []string
	token   string

	detect func(ctx context.Context, dir string) api.Capability
	root   fs.FS // of the machine's file system
	step   func(context.Context) (stepResult, error)
	reach  func(ctx context.Context, server, token string) []finding
}

func newExaminer(dir string, servers []string, token string) examiner {
	return examiner{dir: dir, servers: servers, token: token, detect: capability.Detect, root: os.DirFS("/"), step: trainOneStep, reach: reacher{}.check}
}

func (e examiner) diagnose(ctx context.Context) diagnosis {
	place := e.dir
	for place != filepath.Dir(place) {
		if _, err := os.Stat(place); err == nil {
			break
		}
		place = filepath.Dir(place)
	}
	c := e.detect(ctx, place)
	d := diagnosis{OK: true, LoRA: loraLimits(c)}
	for _, l := range d.LoRA {
		d.LoRABillions = max(d.LoRABillions, l.Billions)
	}
	d.Findings = append(d.Findings, checkDisk(c, place), checkMemory(c), checkGPUs(c, e.root), checkEngines(c))
	r, err := e.step(ctx)
	if err == nil {
		d.Step = &r
	}
	d.Findings = append(d.Findings, checkStep(r, err))
	for _, s := range e.servers {
		d.Findings = append(d.Findings, e.reach(ctx, s, e.token)...)
	}
	for _, f := range d.Findings {
		d.OK = d.OK && f.Status != statusFailed
	}
	return d
}

func gib(n int64) string { return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30)) }

func checkDisk(c api.Capability, place string) finding {
	f := finding{Check: "disk", Status: statusOK, Detail: gib(c.DiskBytes) + " free at " + place}
	switch {
	case c.DiskBytes < diskFew:
		f.Status, f.Hint = statusFailed, "a node needs 2 GiB for inputs and checkpoints, 20 GiB is comfortable: free some, or choose another --data-dir"
	case c.DiskBytes < diskLittle:
		f.Status, f.Hint = statusWarning, "enough for small models; a model of several GB is cached here, beside its checkpoints"
	}
	return f
}

func checkMemory(c api.Capability) finding {
	f := finding{Check: "memory", Status: statusOK, Detail: gib(c.MemoryBytes)}
	if c.MemoryBytes < memoryFew {
		f.Status, f.Hint = statusWarning, "only the smallest models can be trained with less than 2 GiB"
	}
	return f
}

// checkGPUs compares the GPUs that a driver shows with the cards that are there.
func checkGPUs(c api.Capability, root fs.FS) finding {
	var names []string
	seen := map[string]bool{}
	for _, g := range c.GPUs {
		seen[g.Kind] = true
		words := []string{g.Name, gib(g.MemoryBytes)}
		if g.Driver != "" {
			words = append(words, "driver "+g.Driver)
		}
		names = append(names, strings.Join(words, " "))
	}
	f := finding{Check: "gpu", Status: statusOK, Detail: strings.Join(names, "; ")}
	if len(names) == 0 {
		f.Detail = "no GPU is seen: the CPU trains"
	}
	switch cards := cardsOf(root); {
	case cards[vendorNVIDIA] > 0 && !seen["cuda"]:
		f.Status = statusWarning
		f.Detail += fmt.Sprintf("; %d NVIDIA card(s) on the bus, and no driver shows one", cards[vendorNVIDIA])
		f.Hint = "install NVIDIA's driver until nvidia-smi lists the card, as the user that runs the agent; in a container give it the GPU (--gpus all)"
	case cards[vendorAMD] > 0 && !seen["rocm"] && len(names) == 0:
		// Most are the small ones inside a processor, which nobody trains on.
		f.Detail += "; an AMD card is on the bus"
		f.Hint = "to train on it install ROCm until rocm-smi lists it"
	}
	return f
}

// Vendors on the PCI bus (pci-ids.ucw.cz), and the class of display controllers.
const (
	vendorNVIDIA = "0x10de"
	vendorAMD    = "0x1002"
	classDisplay = "0x03"
)

// cardsOf counts display controllers by vendor, as Linux lists them
// (Documentation/ABI/testing/sysfs-bus-pci). Elsewhere there are none.
func cardsOf(root fs.FS) map[string]int {
	out := map[string]int{}
	devices, _ := fs.Glob(root, "sys/bus/pci/devices/*")
	for _, d := range devices {
		class, err := fs.ReadFile(root, d+"/class")
		vendor, err2 := fs.ReadFile(root, d+"/vendor")
		if errors.Join(err, err2) == nil && strings.HasPrefix(string(class), classDisplay) {
			out[strings.TrimSpace(string(vendor))]++
		}
	}
	return out
}

func checkEngines(c api.Capability) finding {
	f := finding{Check: "engines", Status: statusFailed, Hint: "without an engine only stages that train nothing can run here: `tunemesh engine list` says what each one needs"}
	var parts []string
	for _, e := range c.Engines {
		if e.Available {
			f.Status, f.Hint = statusOK, ""
			parts = append(parts, e.Name)
		} else {
			parts = append(parts, e.Name+" not: "+e.Reason)
		}
	}
	f.Detail = strings.Join(parts, "; ")
	return f
}

func checkStep(r stepResult, err error) finding {
	f := finding{Check: "step", Status: statusOK, Detail: fmt.Sprintf("one training step of %s on the %s: %.0f ms, %.0f tokens/s", r.Model, r.Device, 1000*r.Seconds, r.TokensPerSec)}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		f.Status, f.Detail, f.Hint = statusWarning, err.Error(), "this machine is very slow or very busy: trainings will take long here"
	case err != nil:
		f.Status, f.Detail = statusFailed, "the bundled model does not train here: "+err.Error()
		f.Hint = "no training would run on this machine: look into its log (dmesg) for killed processes, free some memory and check that this build is for this processor"
	case r.TokensPerSec < stepSlow:
		f.Status, f.Hint = statusWarning, "this machine is very slow or very busy: trainings will take long here"
	}
	return f
}
