package capability

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tunemesh/tunemesh/api"
)

// parseMetal reads `system_profiler SPDisplaysDataType -json`: the devices that
// speak Metal. On Apple silicon the GPU shares the machine's memory, which is
// what memory stands for.
func parseMetal(out []byte, memory int64) ([]api.GPU, error) {
	var doc struct {
		Displays []struct {
			Name   string `json:"sppci_model"`
			Metal  string `json:"spdisplays_mtlgpufamilysupport"`
			Older  string `json:"spdisplays_metal"`
			Vendor string `json:"spdisplays_vendor"`
			Cores  string `json:"sppci_cores"`
		} `json:"SPDisplaysDataType"`
	}
	if err := json.Unmarshal(out, &doc); err != nil {
		return nil, fmt.Errorf("capability: system_profiler: %w", err)
	}
	var gpus []api.GPU
	for _, d := range doc.Displays {
		family := d.Metal
		if family == "" {
			family = d.Older
		}
		if family == "" || strings.Contains(family, "unsupported") || strings.Contains(family, "notsupported") {
			continue
		}
		g := api.GPU{Index: len(gpus), Kind: "metal", Name: d.Name, ComputeCapability: strings.TrimPrefix(family, "spdisplays_")}
		if d.Cores != "" {
			g.Name += " (" + d.Cores + " cores)"
		}
		if strings.Contains(strings.ToLower(d.Vendor), "apple") {
			g.MemoryBytes = memory
		}
		gpus = append(gpus, g)
	}
	return gpus, nil
}
