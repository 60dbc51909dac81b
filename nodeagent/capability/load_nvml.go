//go:build linux && cgo

package capability

import (
	"context"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/tunemesh/tunemesh/api"
)

// nvidiaLoads asks the driver's own library, as nvidia does.
func nvidiaLoads(ctx context.Context) []api.GPULoad {
	if ret := nvml.Init(); ret != nvml.SUCCESS {
		return nvidiaSMILoads(ctx)
	}
	defer nvml.Shutdown()
	count, ret := nvml.DeviceGetCount()
	if ret != nvml.SUCCESS {
		return nil
	}
	var loads []api.GPULoad
	for i := range count {
		dev, ret := nvml.DeviceGetHandleByIndex(i)
		if ret != nvml.SUCCESS {
			continue
		}
		l := api.GPULoad{Index: i}
		if u, ret := dev.GetUtilizationRates(); ret == nvml.SUCCESS {
			l.UtilPercent = some(float64(u.Gpu))
		}
		if m, ret := dev.GetMemoryInfo(); ret == nvml.SUCCESS {
			l.MemoryUsedBytes = some(int64(m.Used))
		}
		if c, ret := dev.GetTemperature(nvml.TEMPERATURE_GPU); ret == nvml.SUCCESS {
			l.TemperatureC = some(float64(c))
		}
		loads = append(loads, l)
	}
	return loads
}
