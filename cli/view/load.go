package view

import (
	"fmt"
	"strings"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
)

// SetNodes says how busy the nodes are that run the job's stages.
func (s *State) SetNodes(nodes []api.Node) { s.nodes = nodes }

// loadLines tell of each node what it does, one line a node; of nodes that have
// not said so, nothing.
func (s *State) loadLines(f Frame) []string {
	var out []string
	for _, n := range s.nodes {
		if n.Load == nil || s.Job.State.Terminal() {
			continue
		}
		parts := []string{fmt.Sprintf("CPU %.0f %%", n.Load.CPUPercent)}
		for _, g := range n.Load.GPUs {
			var gpu []string
			if g.UtilPercent != nil {
				gpu = append(gpu, fmt.Sprintf("%.0f %%", *g.UtilPercent))
			}
			if g.MemoryUsedBytes != nil {
				gpu = append(gpu, fmt.Sprintf("%.1f GiB", float64(*g.MemoryUsedBytes)/(1<<30)))
			}
			if g.TemperatureC != nil {
				gpu = append(gpu, fmt.Sprintf("%.0f °C", *g.TemperatureC))
			}
			if len(gpu) > 0 {
				parts = append(parts, fmt.Sprintf("GPU %d ", g.Index)+strings.Join(gpu, " "))
			}
		}
		out = append(out, f.Style.Faint(format.Cut(format.Clean(n.Name)+": "+strings.Join(parts, ", "), f.Width)))
	}
	return out
}
