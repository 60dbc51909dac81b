package capability

import (
	"context"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/cpuid/v2"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/mem"

	"github.com/tunemesh/tunemesh/api"
)

// toolTimeout bounds each program that is asked, such as nvidia-smi: a broken
// driver can make it hang.
const toolTimeout = 10 * time.Second

// Detect finds this machine's capability; dir is where the agent works. What
// cannot be found out stays empty.
func Detect(ctx context.Context, dir string) api.Capability {
	c := api.Capability{OS: runtime.GOOS, Arch: runtime.GOARCH, CPU: processor()}
	c.Hostname, _ = os.Hostname()
	limits := readLimits(os.DirFS("/"))
	c.CPU.Cores = min(c.CPU.Cores, limits.cores(c.CPU.Cores))
	if v, err := mem.VirtualMemoryWithContext(ctx); err == nil {
		c.MemoryBytes = int64(v.Total)
	}
	if limits.memory > 0 && (c.MemoryBytes == 0 || limits.memory < c.MemoryBytes) {
		c.MemoryBytes = limits.memory
	}
	if u, err := disk.UsageWithContext(ctx, dir); err == nil {
		c.DiskBytes = int64(u.Free)
	}
	c.GPUs = slices.Concat(nvidia(ctx), rocm(ctx), metal(ctx))
	c.Engines = Engines(dir, c.GPUs)
	return c
}

func processor() api.CPU {
	cpu := api.CPU{Model: strings.TrimSpace(cpuid.CPU.BrandName), Cores: usableCores()}
	if cpu.Model == "" {
		cpu.Model = platformModel()
	}
	for _, f := range cpuid.CPU.FeatureSet() {
		if name, ok := told[f]; ok {
			cpu.Features = append(cpu.Features, name)
		}
	}
	slices.Sort(cpu.Features)
	return cpu
}

// told are the instruction sets that a kernel may be chosen by, of a hundred
// that a processor has.
var told = map[string]string{
	"SSE42": "sse4.2", "AVX": "avx", "AVX2": "avx2", "FMA3": "fma", "F16C": "f16c", "AVXVNNI": "avx_vnni",
	"AVX512F": "avx512f", "AVX512BW": "avx512bw", "AVX512DQ": "avx512dq", "AVX512VL": "avx512vl",
	"AVX512VNNI": "avx512_vnni", "AVX512BF16": "avx512_bf16", "AVX512FP16": "avx512_fp16",
	"AMXTILE": "amx_tile", "AMXBF16": "amx_bf16", "AMXINT8": "amx_int8",
	"ASIMD": "neon", "ASIMDDP": "dotprod", "ASIMDHP": "fp16", "SVE": "sve", "SVE2": "sve2",
}
