//go:build linux && cgo

package capability

import (
	"context"
	"fmt"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/tunemesh/tunemesh/api"
)

// This is the only file that needs cgo. The binding's C header marks old
// functions as deprecated and the compiler repeats that at every build; set
// CGO_CFLAGS="-O2 -g -Wno-deprecated-declarations" to silence it.

// nvidia asks the driver's own library, which is loaded at run time: a machine
// without it has no NVIDIA GPU that could be used.
func nvidia(ctx context.Context) []api.GPU {
	if ret := nvml.Init(); ret != nvml.SUCCESS {
		return nvidiaSMI(ctx)
	}
	defer nvml.Shutdown()
	count, ret := nvml.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nil
	}
	driver, _ := nvml.SystemGetDriverVersion()
	var gpus []api.GPU
	for i := range count {
		dev, ret := nvml.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			continue // one that has fallen off the bus; the others still work
		}
		g := api.GPU{Index: i, Kind: "cuda", Driver: driver}
		g.Name, _ = dev.GetName()
		g.UUID, _ = dev.GetUUID()
		if m, ret := dev.GetMemoryInfo(); ret == nvml.SUCCESS {
			g.MemoryBytes, g.MemoryFreeBytes = int64(m.Total), int64(m.Free)
		}
		if major, minor, ret := dev.GetCudaComputeCapability(); ret == nvml.SUCCESS {
			g.ComputeCapability = fmt.Sprintf("%d.%d", major, minor)
		}
		gpus = append(gpus, g)
	}
	return gpus
}
