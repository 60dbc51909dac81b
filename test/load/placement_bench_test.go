package load

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
)

func upload(b testing.TB, c *client.Client) api.Dataset {
	b.Helper()
	const csv = "text,label\na,b\n"
	d, err := c.UploadDataset(b.Context(), "t.csv", strings.NewReader(csv), int64(len(csv)))
	if err != nil {
		b.Fatal(err)
	}
	return d
}

// stages is a pipeline of n stages that depend on nothing.
func stages(n int) *api.Pipeline {
	p := &api.Pipeline{}
	for i := range n {
		p.Nodes = append(p.Nodes, api.StageSpec{Name: fmt.Sprintf("s%d", i), Command: []string{"true"}, Requires: api.Requirements{CPUCores: 1}})
	}
	return p
}

// BenchmarkPlacement queues TUNEMESH_STAGES stages before TUNEMESH_AGENTS nodes
// come alive, and measures until each stage has reached its node: planning, Raft
// entries of many placements, and the long polls that bring them there. Then it
// measures what idle nodes cost, and how long a new job takes to start. No lease
// may run out meanwhile.
func BenchmarkPlacement(b *testing.B) {
	agents, queued := size("TUNEMESH_AGENTS", 50), size("TUNEMESH_STAGES", 640)
	b.Run(fmt.Sprintf("agents=%d/stages=%d", agents, queued), func(b *testing.B) {
		for range b.N {
			placeAll(b, agents, queued)
		}
	})
}

func placeAll(b *testing.B, agents, queued int) {
	s := startServer(b)
	user := s.client(s.token(b, "admin.token"), transport())
	ds := upload(b, user)
	const perJob = 64
	group, ctx := errgroup.WithContext(b.Context())
	group.SetLimit(16)
	submitted := time.Now()
	for left := queued; left > 0; left -= perJob {
		group.Go(func() error {
			_, err := user.SubmitJob(ctx, api.JobSpec{ID: ulid.Make().String(), Dataset: ds.ID, Pipeline: stages(min(left, perJob))})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(queued)/time.Since(submitted).Seconds(), "queued/s")

	f := join(b, s, agents, (queued+size("TUNEMESH_STARTS", 100))/agents+2)
	var count atomic.Int64
	all := make(chan struct{})
	var mu sync.Mutex
	arrived := map[string]time.Time{}
	f.placed = func(a api.Assignment, at time.Time) {
		mu.Lock()
		arrived[a.JobID+a.Stage.Name] = at
		mu.Unlock()
		if count.Add(1) == int64(queued) {
			close(all)
		}
	}
	before := s.used(b)
	began := time.Now()
	f.beat()
	select {
	case <-all:
	case <-time.After(10 * time.Minute):
		b.Fatalf("%d of %d stages placed after 10 minutes", count.Load(), queued)
	}
	took := time.Since(began)
	after := s.used(b)
	b.ReportMetric(float64(queued)/took.Seconds(), "placements/s")
	b.ReportMetric(float64(after.rss)/(1<<20), "leader-MB")
	b.ReportMetric((after.cpu-before.cpu).Seconds()/float64(queued)*1e6, "leader-cpu-us/placement")

	idle(b, s, agents)
	starts(b, user, ds, f)
	if n := s.expiries(b); n > 0 {
		b.Errorf("%d leases ran out", n)
	}
}

// idle measures the leader's cores while nodes only send heartbeats.
func idle(b *testing.B, s *server, agents int) {
	span := 2 * time.Second
	if agents >= 1000 {
		span = 20 * time.Second
	}
	before := s.used(b)
	time.Sleep(span)
	b.ReportMetric((s.used(b).cpu-before.cpu).Seconds()/span.Seconds(), "idle-cores")
}

// starts submits jobs of one stage at a steady rate and measures from the call
// to the assignment's arrival at its node.
func starts(b *testing.B, user *client.Client, ds api.Dataset, f *fleet) {
	const rate = 50
	jobs := size("TUNEMESH_STARTS", 100)
	var mu sync.Mutex
	asked, came := map[string]time.Time{}, map[string]time.Time{}
	done := make(chan struct{})
	f.placed = func(a api.Assignment, at time.Time) {
		mu.Lock()
		defer mu.Unlock()
		if _, mine := asked[a.JobID]; mine {
			came[a.JobID] = at
			if len(came) == jobs {
				close(done)
			}
		}
	}
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	var group errgroup.Group
	for range jobs {
		<-tick.C
		id := ulid.Make().String()
		mu.Lock()
		asked[id] = time.Now()
		mu.Unlock()
		group.Go(func() error {
			_, err := user.SubmitJob(context.Background(), api.JobSpec{ID: id, Dataset: ds.ID, Pipeline: stages(1)})
			return err
		})
	}
	if err := group.Wait(); err != nil {
		b.Fatal(err)
	}
	select {
	case <-done:
	case <-time.After(time.Minute):
		mu.Lock()
		defer mu.Unlock()
		b.Fatalf("%d of %d jobs started", len(came), jobs)
	}
	var took []time.Duration
	for id, at := range came {
		took = append(took, at.Sub(asked[id]))
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds())/1e3, "start-p50-ms")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds())/1e3, "start-p99-ms")
}
