package view_test

import (
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/view"
)

func TestTheLiveViewShowsHowBusyTheNodesAre(t *testing.T) {
	var s view.State
	job := api.JobDetail{}
	job.ID, job.State = "01J", api.JobRunning
	s.SetJob(job)
	util, used, hot := 97.4, int64(12<<30), 64.0
	s.SetNodes([]api.Node{
		{Name: "ws-anna", Load: &api.NodeLoad{CPUPercent: 83.2, GPUs: []api.GPULoad{{Index: 0, UtilPercent: &util, MemoryUsedBytes: &used, TemperatureC: &hot}, {Index: 1}}}},
		{Name: "silent"},
	})
	text := strings.Join(s.Lines(view.Frame{Width: 100}), "\n")
	if !strings.Contains(text, "ws-anna: CPU 83 %, GPU 0 97 % 12.0 GiB 64 °C") || strings.Contains(text, "silent") || strings.Contains(text, "GPU 1") {
		t.Errorf("the view is\n%s", text)
	}
}
