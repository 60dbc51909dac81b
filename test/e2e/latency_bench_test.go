package e2e

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// BenchmarkSubmitToRunning measures, on the real binary, the time from before
// the submit to the agent's report that the job's first stage runs: two fsynced
// Raft entries, a placement, a long poll, two process starts. One job at a time;
// TUNEMESH_JOBS sets how many (default 20, 200 for the published figure).
func BenchmarkSubmitToRunning(b *testing.B) {
	if os.Getenv("TUNEMESH_E2E") == "" {
		b.Skip("starts the real binary: set TUNEMESH_E2E=1 after make build")
	}
	jobs := 20
	if n, err := strconv.Atoi(os.Getenv("TUNEMESH_JOBS")); err == nil {
		jobs = n
	}
	m := newMesh(b)
	ds := m.upload("small.csv", []byte(smallCSV))
	spec := api.JobSpec{Dataset: ds.ID, Pipeline: &api.Pipeline{Nodes: []api.StageSpec{{Name: "only", Command: []string{"true"}, MaxAttempts: 1}}}}
	var waits []time.Duration
	for range b.N {
		for range jobs {
			before := time.Now()
			id := m.submit(spec).ID
			job := m.await(id, time.Minute)
			only := stage(b, job, "only")
			if only.StartedAt == nil {
				b.Fatalf("the stage never ran: %s", pretty(job))
			}
			waits = append(waits, only.StartedAt.Sub(before))
		}
	}
	slices.Sort(waits)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(waits[len(waits)/2]), "p50-ms")
	b.ReportMetric(ms(waits[len(waits)*99/100]), "p99-ms")
}
