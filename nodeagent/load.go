package nodeagent

import (
	"context"
	"sync"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/mem"

	"github.com/tunemesh/tunemesh/api"
)

// loadMeter measures the machine's load between one call and the next. It keeps
// its own last reading, since the library's is shared by the whole process.
type loadMeter struct {
	busy, total float64
}

func (m *loadMeter) measure(dir string) api.NodeLoad {
	var load api.NodeLoad
	if times, err := cpu.Times(false); err == nil && len(times) == 1 {
		t := times[0]
		idle := t.Idle + t.Iowait
		busy := t.User + t.Nice + t.System + t.Irq + t.Softirq + t.Steal
		if total := busy + idle; m.total > 0 && total > m.total {
			load.CPUPercent = max(0, min(100, 100*(busy-m.busy)/(total-m.total)))
		}
		m.busy, m.total = busy, busy+idle
	}
	if v, err := mem.VirtualMemory(); err == nil {
		load.MemoryFreeBytes = int64(v.Available)
	}
	if u, err := disk.Usage(dir); err == nil {
		load.DiskFreeBytes = int64(u.Free)
	}
	return load
}

// loadInterval is how often the load is measured.
const loadInterval = 5 * time.Second

// sampler holds the newest load. It is measured beside the heartbeats, since a
// broken driver can make it take long.
type sampler struct {
	mu     sync.Mutex
	newest api.NodeLoad
}

func (s *sampler) load() api.NodeLoad {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.newest
}

func (s *sampler) run(ctx context.Context, dir string, gpus func(context.Context) []api.GPULoad) {
	var meter loadMeter
	for {
		load := meter.measure(dir)
		s.set(load, s.load().GPUs)
		s.set(load, gpus(ctx))
		if !sleep(ctx, loadInterval) {
			return
		}
	}
}

func (s *sampler) set(load api.NodeLoad, gpus []api.GPULoad) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.newest = load
	s.newest.GPUs = gpus
}
