package nodeagent

import (
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
