package scheduler

import (
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/api"
)

// demand is what a stage reserves and asks for; stages with equal demands are
// one class. It is comparable: labels stand in it as sorted lines.
type demand struct {
	cores            int
	memory, disk     int64
	gpus             int
	gpuMemory        int64
	engine, slot     string
	labels           string
	takesWhatIsThere bool
}

func demandOf(r Request) demand {
	q := r.Requires
	d := demand{cores: q.CPUCores, memory: q.MemoryBytes, disk: q.DiskBytes,
		gpus: q.GPUs, gpuMemory: q.GPUMemoryBytes, engine: q.Engine}
	if d.gpuMemory > 0 && d.gpus == 0 {
		d.gpus = 1
	}
	if len(q.Labels) > 0 {
		lines := make([]string, 0, len(q.Labels))
		for k, v := range q.Labels {
			lines = append(lines, k+"="+v)
		}
		slices.Sort(lines)
		d.labels = strings.Join(lines, "\n")
	}
	if (r.Kind == "training" || r.Kind == "evaluation") && d.gpus == 0 {
		d.slot = SlotTraining
	}
	if d.cores == 0 {
		if d.slot == "" {
			d.cores = 1
		} else {
			d.takesWhatIsThere = true
		}
	}
	return d
}

// machine is a node during planning.
type machine struct {
	*Node
	freeCores  int
	freeMemory int64
	// gpus that are free, the smallest first.
	gpus  []api.GPU
	slots []string
	// version counts the placements made on the machine by this plan.
	version int
}

func newMachine(n *Node) machine {
	m := machine{Node: n,
		freeCores:  n.Capability.CPU.Cores - n.Used.CPUCores,
		freeMemory: n.Capability.MemoryBytes - n.Used.MemoryBytes,
		slots:      slices.Clone(n.Used.Slots),
	}
	for _, g := range n.Capability.GPUs {
		if !slices.Contains(n.Used.GPUs, g.Index) {
			m.gpus = append(m.gpus, g)
		}
	}
	slices.SortFunc(m.gpus, func(a, b api.GPU) int {
		if x, y := gpuMemory(a), gpuMemory(b); x != y {
			if x < y {
				return -1
			}
			return 1
		}
		return a.Index - b.Index
	})
	return m
}

// gpuMemory is what a GPU has to give: its free memory if that was measured.
func gpuMemory(g api.GPU) int64 {
	if g.MemoryFreeBytes > 0 {
		return g.MemoryFreeBytes
	}
	return g.MemoryBytes
}

// suits says whether the machine could ever take the demand, if it were empty.
func (m *machine) suits(d demand) bool {
	for _, c := range standing {
		if !c.pass(m, d) {
			return false
		}
	}
	return true
}

// fits says whether a machine that suits the demand can take it now.
func (m *machine) fits(d demand) bool {
	for _, c := range passing {
		if !c.pass(m, d) {
			return false
		}
	}
	return true
}

// smallestGPUs returns the position in m.gpus from which d.gpus cards are large
// enough, and their memory; m fits d.
func (m *machine) smallestGPUs(d demand) (from int, memory int64) {
	if d.gpus == 0 {
		return 0, 0
	}
	for from < len(m.gpus) && gpuMemory(m.gpus[from]) < d.gpuMemory {
		from++
	}
	for _, g := range m.gpus[from : from+d.gpus] {
		memory += gpuMemory(g)
	}
	return from, memory
}

// place reserves the demand.
func (m *machine) place(d demand) api.Devices {
	devices := api.Devices{CPUCores: d.cores, MemoryBytes: d.memory, Engine: d.engine}
	if d.gpus > 0 {
		from, _ := m.smallestGPUs(d)
		devices.GPUMemoryBytes = gpuMemory(m.gpus[from]) // they are in order
		for _, g := range m.gpus[from : from+d.gpus] {
			devices.GPUs = append(devices.GPUs, g.Index)
		}
		slices.Sort(devices.GPUs)
		m.gpus = slices.Delete(m.gpus, from, from+d.gpus)
	}
	m.freeCores -= d.cores
	m.freeMemory -= d.memory
	if d.slot != "" {
		m.slots = append(m.slots, d.slot)
	}
	m.version++
	return devices
}

// score ranks machines for a demand; less is better.
type score struct {
	gpuMemory int64 // of the cards that would be taken
	gpus      int   // free cards that would be left
	cores     int   // cores that would be left
	memory    int64 // memory that would be left
}

func (m *machine) score(d demand) score {
	s := score{gpus: len(m.gpus) - d.gpus, cores: m.freeCores - d.cores, memory: m.freeMemory - d.memory}
	_, s.gpuMemory = m.smallestGPUs(d)
	if d.takesWhatIsThere {
		s.cores = -s.cores
	}
	return s
}

func (s score) less(o score) bool {
	switch {
	case s.gpuMemory != o.gpuMemory:
		return s.gpuMemory < o.gpuMemory
	case s.gpus != o.gpus:
		return s.gpus < o.gpus
	case s.cores != o.cores:
		return s.cores < o.cores
	default:
		return s.memory < o.memory
	}
}
