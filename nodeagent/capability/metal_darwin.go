package capability

import (
	"context"

	"github.com/shirou/gopsutil/v4/mem"

	"github.com/tunemesh/tunemesh/api"
)

// metal asks the system's own report.
func metal(ctx context.Context) []api.GPU {
	out, found, err := ask(ctx, "system_profiler", "SPDisplaysDataType", "-json")
	if !found || err != nil {
		return nil
	}
	var memory int64
	if v, err := mem.VirtualMemoryWithContext(ctx); err == nil {
		memory = int64(v.Total)
	}
	gpus, _ := parseMetal(out, memory)
	return gpus
}

// metalLoads asks the I/O registry.
func metalLoads(ctx context.Context) []api.GPULoad {
	out, found, err := ask(ctx, "ioreg", "-r", "-d", "1", "-w", "0", "-c", "IOAccelerator")
	if !found || err != nil {
		return nil
	}
	return parseMetalLoads(string(out))
}
