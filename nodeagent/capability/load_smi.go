package capability

import (
	"context"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/tunemesh/tunemesh/api"
)

// smiLoadQuery are the columns asked for, in the order parsed.
const smiLoadQuery = "index,utilization.gpu,memory.used,temperature.gpu"

// nvidiaSMILoads asks NVIDIA's command line tool, for builds without cgo.
func nvidiaSMILoads(ctx context.Context) []api.GPULoad {
	out, found, err := ask(ctx, "nvidia-smi", "--query-gpu="+smiLoadQuery, "--format=csv,noheader,nounits")
	if !found || err != nil {
		return nil
	}
	loads, _ := parseSMILoads(string(out))
	return loads
}

// parseSMILoads reads nvidia-smi's CSV: percent, MiB and degrees Celsius. Rows
// before a faulty one are returned with the error.
func parseSMILoads(out string) ([]api.GPULoad, error) {
	r := csv.NewReader(strings.NewReader(out))
	r.TrimLeadingSpace = true
	r.FieldsPerRecord = strings.Count(smiLoadQuery, ",") + 1
	var loads []api.GPULoad
	for {
		row, err := r.Read()
		if err == io.EOF {
			return loads, nil
		}
		if err != nil {
			return loads, fmt.Errorf("capability: nvidia-smi: %w", err)
		}
		index, err := strconv.Atoi(row[0])
		if err != nil || index < 0 {
			return loads, fmt.Errorf("capability: nvidia-smi: device index %q", row[0])
		}
		l := api.GPULoad{Index: index, UtilPercent: number(row[1]), TemperatureC: number(row[3])}
		if known(row[2]) != "" {
			l.MemoryUsedBytes = some(mebibytes(row[2]))
		}
		loads = append(loads, l)
	}
}

// rocmLoads asks AMD's command line tool.
func rocmLoads(ctx context.Context) []api.GPULoad {
	out, found, err := ask(ctx, "rocm-smi", "--showuse", "--showtemp", "--showmeminfo", "vram", "--json")
	if !found || err != nil {
		return nil
	}
	loads, _ := parseROCmLoads(out)
	return loads
}

// parseROCmLoads reads rocm-smi's JSON; see parseROCm for its form. The edge
// sensor is the one that every card has.
func parseROCmLoads(out []byte) ([]api.GPULoad, error) {
	var cards map[string]map[string]any
	if err := json.Unmarshal(out, &cards); err != nil {
		return nil, fmt.Errorf("capability: rocm-smi: %w", err)
	}
	var loads []api.GPULoad
	for name, card := range cards {
		suffix, ok := strings.CutPrefix(name, "card")
		index, err := strconv.Atoi(suffix)
		if !ok || err != nil || index < 0 {
			continue
		}
		l := api.GPULoad{Index: index, UtilPercent: number(field(card, "GPU use (%)")),
			TemperatureC: number(field(card, "Temperature (Sensor edge) (C)", "Temperature (Sensor junction) (C)"))}
		if used, err := strconv.ParseInt(field(card, "VRAM Total Used Memory (B)"), 10, 64); err == nil && used >= 0 {
			l.MemoryUsedBytes = &used
		}
		loads = append(loads, l)
	}
	slices.SortFunc(loads, func(a, b api.GPULoad) int { return a.Index - b.Index })
	return loads, nil
}

// parseMetalLoads reads `ioreg -r -d 1 -w 0 -c IOAccelerator`: each accelerator's
// PerformanceStatistics, a dictionary on one line. Apple's GPUs tell no
// temperature there.
func parseMetalLoads(out string) []api.GPULoad {
	var loads []api.GPULoad
	for line := range strings.Lines(out) {
		_, dict, ok := strings.Cut(line, `"PerformanceStatistics" = {`)
		if !ok {
			continue
		}
		l := api.GPULoad{Index: len(loads)}
		for pair := range strings.SplitSeq(strings.TrimRight(strings.TrimSpace(dict), "}"), ",") {
			name, value, _ := strings.Cut(pair, "=")
			switch strings.Trim(name, `" `) {
			case "Device Utilization %":
				l.UtilPercent = number(value)
			case "In use system memory":
				if n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64); err == nil && n >= 0 {
					l.MemoryUsedBytes = &n
				}
			}
		}
		loads = append(loads, l)
	}
	return loads
}

// number reads a figure; nil for what a device does not tell.
func number(s string) *float64 {
	v, err := strconv.ParseFloat(strings.TrimSpace(s), 64)
	if err != nil || v != v || v < -1e6 || v > 1e6 {
		return nil
	}
	return &v
}
