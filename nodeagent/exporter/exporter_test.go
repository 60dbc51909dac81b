package exporter_test

import (
	"io"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/nodeagent"
	"github.com/tunemesh/tunemesh/nodeagent/cache"
	"github.com/tunemesh/tunemesh/nodeagent/exporter"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func of[T any](v T) *T { return &v }

func scrape(t *testing.T, f nodeagent.Figures) string {
	t.Helper()
	l, err := exporter.Listen("127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e, err := exporter.Serve(l, exporter.Version{Version: "v1", Commit: "abc"}, func() nodeagent.Figures { return f })
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	defer func() {
		transport.CloseIdleConnections()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}()
	resp, err := (&http.Client{Transport: transport}).Get("http://" + l.Addr().String() + "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status, err)
	}
	return string(body)
}

var figures = nodeagent.Figures{
	Load: api.NodeLoad{CPUPercent: 50, MemoryFreeBytes: 1 << 30, DiskFreeBytes: 2 << 30, GPUs: []api.GPULoad{
		{Index: 0, UtilPercent: of(97.0), MemoryUsedBytes: of(int64(123)), TemperatureC: of(71.0)},
		{Index: 1, UtilPercent: of(0.0)},
	}},
	Running: map[string]int{"training": 1}, HeartbeatAge: 1500 * time.Millisecond, SpoolBytes: 100, SpoolPending: 40,
	GossipMembers: map[string]int{"server": 3},
	Cache:         cache.Stats{Bytes: 10, Limit: 20, Hits: 3, Misses: 4},
}

func TestAnAgentIsTheGPUExporter(t *testing.T) {
	got := scrape(t, figures)
	for _, line := range []string{
		`gpu_utilization_percent{gpu_id="0"} 97`, `gpu_utilization_percent{gpu_id="1"} 0`, `gpu_memory_used_bytes{gpu_id="0"} 123`,
		`gpu_temperature_celsius{gpu_id="0"} 71`, "node_cpu_busy_ratio 0.5", `agent_attempts_running{queue="training"} 1`,
		"agent_heartbeat_age_seconds 1.5", "spool_bytes 100", "spool_pending_bytes 40", "cache_bytes 10", "cache_limit_bytes 20",
		"cache_hits_total 3", "cache_misses_total 4", "tunemesh_build_info{", `gossip_members{role="server"} 3`,
	} {
		if !strings.Contains(got, "\n"+line) {
			t.Errorf("no line %s", line)
		}
	}
	if strings.Contains(got, `gpu_temperature_celsius{gpu_id="1"}`) {
		t.Error("a GPU that tells no temperature has one")
	}
}

// promtool has one thing to say: the name of gpu_utilization_percent is given,
// and Prometheus would rather have a ratio.
func TestPromtoolFindsTheMetricsClean(t *testing.T) {
	if _, err := exec.LookPath("promtool"); err != nil {
		t.Skip("promtool is not installed (Debian: prometheus)")
	}
	cmd := exec.Command("promtool", "check", "metrics")
	cmd.Stdin = strings.NewReader(scrape(t, figures))
	out, _ := cmd.CombinedOutput()
	said := strings.FieldsFunc(string(out), func(r rune) bool { return r == '\n' })
	if slices.ContainsFunc(said, func(line string) bool { return !strings.HasPrefix(line, "gpu_utilization_percent ") }) {
		t.Errorf("promtool says:\n%s", out)
	}
}
