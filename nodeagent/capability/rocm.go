package capability

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tunemesh/tunemesh/api"
)

// rocm asks AMD's command line tool. No engine uses these devices yet; they are
// told so that a user sees that they were seen.
func rocm(ctx context.Context) []api.GPU {
	out, found, err := ask(ctx, "rocm-smi", "--showproductname", "--showuniqueid", "--showmeminfo", "vram", "--showdriverversion", "--json")
	if !found || err != nil {
		return nil
	}
	gpus, _ := parseROCm(out)
	return gpus
}

// parseROCm reads rocm-smi's JSON: an object per card, card0 and so on, whose
// keys are the labels of the tool's text output, and one of the system. The
// labels differ between releases; what is not found stays empty.
func parseROCm(out []byte) ([]api.GPU, error) {
	var cards map[string]map[string]any
	if err := json.Unmarshal(out, &cards); err != nil {
		return nil, fmt.Errorf("capability: rocm-smi: %w", err)
	}
	driver := field(cards["system"], "Driver version")
	var gpus []api.GPU
	for name, card := range cards {
		number, ok := strings.CutPrefix(name, "card")
		index, err := strconv.Atoi(number)
		if !ok || err != nil || index < 0 {
			continue
		}
		g := api.GPU{Index: index, Kind: "rocm", Driver: driver}
		g.Name = field(card, "Card Series", "Card series", "Card Model", "Card model", "Device Name")
		g.UUID = field(card, "Unique ID")
		g.ComputeCapability = field(card, "GFX Version")
		total, err := strconv.ParseInt(field(card, "VRAM Total Memory (B)"), 10, 64)
		if err == nil && total > 0 {
			g.MemoryBytes = total
			if used, err := strconv.ParseInt(field(card, "VRAM Total Used Memory (B)"), 10, 64); err == nil && used >= 0 && used <= total {
				g.MemoryFreeBytes = total - used
			}
		}
		gpus = append(gpus, g)
	}
	slices.SortFunc(gpus, func(a, b api.GPU) int { return a.Index - b.Index })
	return gpus, nil
}

func field(card map[string]any, names ...string) string {
	for _, n := range names {
		if s, ok := card[n].(string); ok && s != "" && s != "N/A" {
			return s
		}
	}
	return ""
}
