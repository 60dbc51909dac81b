package scheduler

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/api"
)

// check is one thing that a node must offer, in the order in which people would
// ask. When no node passes one, it is the reason for waiting.
type check struct {
	pass func(m *machine, d demand) bool
	// missing says what no node has, nearest what the closest node has, and
	// close how close a node is: more is closer.
	missing func(d demand) string
	nearest func(m *machine, d demand) string
	close   func(m *machine, d demand) int64
}

func gib(n int64) string {
	const unit = 1 << 30
	switch {
	case n%unit == 0:
		return fmt.Sprintf("%d GiB", n/unit)
	case n >= unit:
		return fmt.Sprintf("%.1f GiB", float64(n)/unit)
	default:
		return fmt.Sprintf("%d MiB", (n+1<<20-1)>>20)
	}
}

func (d demand) gpuWords() string {
	words := "a GPU"
	if d.gpus > 1 {
		words = fmt.Sprintf("%d GPUs", d.gpus)
	}
	if d.gpuMemory > 0 {
		words += " with " + gib(d.gpuMemory) + " free"
	}
	if d.gpus > 1 && d.gpuMemory > 0 {
		words += " each"
	}
	return words
}

func gpuList(gpus []api.GPU) string {
	if len(gpus) == 0 {
		return "CPU only"
	}
	var parts []string
	for _, g := range gpus {
		parts = append(parts, fmt.Sprintf("%s with %s", g.Name, gib(gpuMemory(g))))
	}
	if len(parts) > 3 {
		parts = append(parts[:3], fmt.Sprintf("and %d more", len(gpus)-3))
	}
	return strings.Join(parts, ", ")
}

func largeEnough(gpus []api.GPU, d demand) int {
	n := 0
	for _, g := range gpus {
		if gpuMemory(g) >= d.gpuMemory {
			n++
		}
	}
	return n
}

// missingLabel returns the first wanted label that a node does not carry.
func missingLabel(m *machine, d demand) (label string, carried int64) {
	for line := range strings.SplitSeq(d.labels, "\n") {
		k, v, _ := strings.Cut(line, "=")
		if have, ok := m.Labels[k]; !ok || have != v {
			if label == "" {
				label = line
			}
			continue
		}
		carried++
	}
	return label, carried
}

func plural(n int, one string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%d %ss", n, one)
}

func even(*machine, demand) int64 { return 0 }

// standing are the checks that do not depend on what runs on the node.
var standing = []check{
	{
		pass:    func(m *machine, _ demand) bool { return m.Alive },
		missing: func(demand) string { return "no node is connected" },
		nearest: func(*machine, demand) string { return "disconnected" },
		close:   even,
	}, {
		pass:    func(m *machine, _ demand) bool { return !m.Drain },
		missing: func(demand) string { return "every connected node is draining" },
		nearest: func(*machine, demand) string { return "draining" },
		close:   even,
	}, {
		pass: func(m *machine, d demand) bool {
			return d.engine == "" || m.Capability.RunsEngine(d.engine, d.gpus > 0)
		},
		missing: func(d demand) string { return api.NoEngine(d.engine, d.gpus > 0) },
		nearest: func(m *machine, d demand) string { return m.Capability.LacksEngine(d.engine) },
		close:   even,
	}, {
		pass: func(m *machine, d demand) bool {
			if d.labels == "" {
				return true
			}
			missing, _ := missingLabel(m, d)
			return missing == ""
		},
		missing: func(d demand) string {
			return "no node carries " + strings.ReplaceAll(d.labels, "\n", ", ")
		},
		nearest: func(m *machine, d demand) string {
			label, _ := missingLabel(m, d)
			k, _, _ := strings.Cut(label, "=")
			if have, ok := m.Labels[k]; ok {
				return "with " + k + "=" + have
			}
			return "without " + k
		},
		close: func(m *machine, d demand) int64 { _, n := missingLabel(m, d); return n },
	}, {
		pass:    func(m *machine, d demand) bool { return d.gpus == 0 || largeEnough(m.Capability.GPUs, d) >= d.gpus },
		missing: func(d demand) string { return "no node has " + d.gpuWords() },
		nearest: func(m *machine, _ demand) string { return gpuList(m.Capability.GPUs) },
		close: func(m *machine, d demand) int64 {
			best := int64(largeEnough(m.Capability.GPUs, d)) << 50
			for _, g := range m.Capability.GPUs {
				best = max(best, gpuMemory(g))
			}
			return best
		},
	}, {
		pass:    func(m *machine, d demand) bool { return m.Capability.CPU.Cores >= max(d.cores, 0) },
		missing: func(d demand) string { return "no node has " + plural(d.cores, "core") },
		nearest: func(m *machine, _ demand) string { return plural(m.Capability.CPU.Cores, "core") },
		close:   func(m *machine, _ demand) int64 { return int64(m.Capability.CPU.Cores) },
	}, {
		pass:    func(m *machine, d demand) bool { return m.Capability.MemoryBytes >= d.memory },
		missing: func(d demand) string { return "no node has " + gib(d.memory) + " of memory" },
		nearest: func(m *machine, _ demand) string { return gib(m.Capability.MemoryBytes) },
		close:   func(m *machine, _ demand) int64 { return m.Capability.MemoryBytes },
	}, {
		pass:    func(m *machine, d demand) bool { return m.Capability.DiskBytes >= d.disk },
		missing: func(d demand) string { return "no node has " + gib(d.disk) + " of disk free" },
		nearest: func(m *machine, _ demand) string { return gib(m.Capability.DiskBytes) + " free" },
		close:   func(m *machine, _ demand) int64 { return m.Capability.DiskBytes },
	},
}

// passing are the checks of what is left at the moment.
var passing = []check{
	{
		pass:    func(m *machine, d demand) bool { return d.slot == "" || !slices.Contains(m.slots, d.slot) },
		missing: func(demand) string { return "every fitting node is already busy with a training or an evaluation" },
		nearest: func(*machine, demand) string { return "one at a time" },
		close:   even,
	}, {
		pass:    func(m *machine, d demand) bool { return d.gpus == 0 || largeEnough(m.gpus, d) >= d.gpus },
		missing: func(d demand) string { return "every node with " + d.gpuWords() + " is busy" },
		nearest: func(m *machine, _ demand) string {
			return fmt.Sprintf("%d of %s free", len(m.gpus), plural(len(m.Capability.GPUs), "GPU"))
		},
		close: func(m *machine, d demand) int64 { return int64(largeEnough(m.gpus, d)) },
	}, {
		pass:    func(m *machine, d demand) bool { return m.freeCores >= d.cores },
		missing: func(d demand) string { return "no fitting node has " + plural(d.cores, "core") + " free now" },
		nearest: func(m *machine, _ demand) string {
			return fmt.Sprintf("%d of %s free", max(m.freeCores, 0), plural(m.Capability.CPU.Cores, "core"))
		},
		close: func(m *machine, _ demand) int64 { return int64(m.freeCores) },
	}, {
		pass:    func(m *machine, d demand) bool { return m.freeMemory >= d.memory },
		missing: func(d demand) string { return "no fitting node has " + gib(d.memory) + " of memory free now" },
		nearest: func(m *machine, _ demand) string { return gib(max(m.freeMemory, 0)) + " free" },
		close:   func(m *machine, _ demand) int64 { return m.freeMemory },
	},
}

// why says why the class waits: the first check that no node passes, of the
// nodes that pass those before it.
func (c *class) why(p *planner) string {
	if c.reason == "" {
		c.reason = explain(p, c.demand)
	}
	return c.reason
}

func explain(p *planner, d demand) string {
	if len(p.machines) == 0 {
		return api.NoNode
	}
	left := make([]*machine, len(p.machines))
	for i := range p.machines {
		left[i] = &p.machines[i]
	}
	for i, c := range slices.Concat(standing, passing) {
		var passed []*machine
		for _, m := range left {
			if c.pass(m, d) {
				passed = append(passed, m)
			}
		}
		if len(passed) > 0 {
			left = passed
			continue
		}
		near := left[0]
		for _, m := range left[1:] {
			if c.close(m, d) > c.close(near, d) {
				near = m
			}
		}
		reason := fmt.Sprintf("%s; nearest: %s, %s", c.missing(d), near.words(), c.nearest(near, d))
		if i > 1 {
			reason += absent(p, d)
		}
		return reason
	}
	return "waits for its turn"
}

// absent names a node that would do if it were there.
func absent(p *planner, d demand) string {
	for i := range p.machines {
		m := p.machines[i]
		if m.Alive && !m.Drain {
			continue
		}
		state := "draining"
		if !m.Alive {
			state = "disconnected"
		}
		there := *m.Node
		there.Alive, there.Drain = true, false
		m.Node = &there
		if m.suits(d) && m.fits(d) {
			return fmt.Sprintf(" (%s would do but is %s)", m.words(), state)
		}
	}
	return ""
}

func (m *machine) words() string {
	if m.Name != "" {
		return m.Name
	}
	return m.ID
}
