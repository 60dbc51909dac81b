package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/consensus"
	"github.com/tunemesh/tunemesh/controlplane/dispatch"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// liveServer is a server with real Raft and a dispatcher that runs while it
// leads.
type liveServer struct {
	node *consensus.Node
	d    *dispatch.Dispatcher
	stop func()
}

func live(t *testing.T, id, dir string, log dispatch.Events, change ...func(c *consensus.Config)) *liveServer {
	t.Helper()
	c := consensus.Config{ID: id, Dir: dir, Bind: "127.0.0.1:0", HTTPAddress: "http://" + id, HeartbeatTimeout: time.Second,
		Fatal: func(err error) { t.Errorf("server %s: %v", id, err) }}
	for _, f := range change {
		f(&c)
	}
	n, err := consensus.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	s := &liveServer{node: n, d: dispatch.New(dispatch.Config{Raft: n, Store: n.Store(), Events: log})}
	ctx, cancel := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	loop.Go(func() {
		n.WhileLeading(ctx, func(term context.Context) {
			if err := s.d.Run(term); !errors.Is(err, context.Canceled) {
				t.Errorf("Run: %v", err)
			}
		})
	})
	s.stop = sync.OnceFunc(func() {
		if err := n.Close(); err != nil {
			t.Errorf("close %s: %v", id, err)
		}
		cancel()
		loop.Wait()
	})
	t.Cleanup(s.stop)
	return s
}

// fakeAgent runs what it is told at once, and tells it to whoever leads.
type fakeAgent struct {
	id      string
	servers []*liveServer
	// gate, if set, is waited for before an attempt is reported as done.
	gate chan struct{}
	// done counts the successes that were accepted, by job and stage.
	mu      sync.Mutex
	done    map[string]int
	running map[uint64]bool
	started chan time.Duration
}

func (a *fakeAgent) ask(ctx context.Context, f func(s *liveServer) error) error {
	for {
		for _, s := range a.servers {
			err := f(s)
			if err == nil || errors.Is(err, state.ErrStaleFence) {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(50 * time.Millisecond):
		}
	}
}

func (a *fakeAgent) run(ctx context.Context) {
	var work sync.WaitGroup
	defer work.Wait()
	node := api.Node{ID: a.id, Name: a.id, Digest: "d", Capability: api.Capability{CPU: api.CPU{Cores: 4}, MemoryBytes: 1 << 30,
		Engines: []api.Engine{{Name: "native", Available: true}}}}
	_ = a.ask(ctx, func(s *liveServer) error {
		_, err := s.node.Apply(ctx, state.UpsertNode{Node: node, At: time.Now().UTC()})
		return err
	})
	for beat := 0; ctx.Err() == nil; beat++ {
		if beat%20 == 0 {
			a.mu.Lock()
			var fences []uint64
			for f := range a.running {
				fences = append(fences, f)
			}
			a.mu.Unlock()
			slices.Sort(fences)
			_ = a.ask(ctx, func(s *liveServer) error {
				_, err := s.d.Heartbeat(a.id, api.Heartbeat{Fences: fences, Digest: "d"})
				return err
			})
		}
		for _, s := range a.servers {
			for _, attempt := range s.node.Store().AttemptsOnNode(a.id) {
				a.mu.Lock()
				known := a.running[attempt.Fence]
				a.running[attempt.Fence] = true
				a.mu.Unlock()
				if !known {
					work.Go(func() { a.attempt(ctx, attempt) })
				}
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func (a *fakeAgent) attempt(ctx context.Context, attempt api.Attempt) {
	report := func(r api.AttemptReport) error {
		return a.ask(ctx, func(s *liveServer) error { return s.d.Report(ctx, attempt.Fence, r) })
	}
	select {
	case a.started <- time.Since(attempt.PlacedAt):
	default:
	}
	if report(api.AttemptReport{State: api.AttemptRunning}) != nil {
		return
	}
	if a.gate != nil {
		select {
		case <-a.gate:
		case <-ctx.Done():
			return
		}
	}
	if report(fine()) == nil {
		a.mu.Lock()
		a.done[attempt.JobID+"/"+attempt.Stage]++
		a.mu.Unlock()
	}
}

func newAgent(id string, servers ...*liveServer) *fakeAgent {
	return &fakeAgent{id: id, servers: servers, done: map[string]int{}, running: map[uint64]bool{}, started: make(chan time.Duration, 1000)}
}

func diamond() api.Pipeline {
	return api.Pipeline{
		Nodes: []api.StageSpec{stage("a", "custom"), stage("b", "custom"), stage("c", "custom"), stage("d", "custom")},
		Edges: []api.Edge{{From: "a", To: "b"}, {From: "a", To: "c"}, {From: "b", To: "d"}, {From: "c", To: "d"}},
	}
}

func waitFor(t *testing.T, what string, limit time.Duration, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(limit); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", limit, what)
		}
	}
}

// I1, I2, I3: while servers come and go, every acknowledged job reaches its end
// and every stage succeeds once.
func TestJobsOutliveTheLeader(t *testing.T) {
	t.Parallel()
	log := &eventLog{next: map[string]uint64{}, lines: map[string][]api.Event{}}
	founder := live(t, "s1", t.TempDir(), log, func(c *consensus.Config) { c.Bootstrap = true })
	waitFor(t, "a leader", 20*time.Second, func() bool { return founder.node.Stats().Ready })
	servers := []*liveServer{founder}
	for _, id := range []string{"s2", "s3"} {
		s := live(t, id, t.TempDir(), log)
		if err := founder.node.AddVoter(context.Background(), state.Server{ID: id, RaftAddress: s.node.RaftAddress()}); err != nil {
			t.Fatal(err)
		}
		servers = append(servers, s)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var agents []*fakeAgent
	var loops sync.WaitGroup
	defer loops.Wait()
	defer cancel()
	for i := range 3 {
		a := newAgent(fmt.Sprintf("n%d", i), servers...)
		agents = append(agents, a)
		loops.Go(func() { a.run(ctx) })
	}
	const jobs = 40
	submitted := make(chan int, jobs)
	loops.Go(func() {
		defer close(submitted)
		for i := range jobs {
			// The same id until it is acknowledged, as a client does.
			c := state.CreateJob{Spec: api.JobSpec{ID: fmt.Sprintf("j%03d", i)}, Pipeline: diamond(), At: time.Now().UTC()}
			if agents[0].ask(ctx, func(s *liveServer) error { _, err := s.node.Apply(ctx, c); return err }) != nil {
				return
			}
			submitted <- i
		}
	})
	for range jobs / 3 {
		<-submitted
	}
	founder.stop() // leads, in the midst of all
	acknowledged := jobs / 3
	for range submitted {
		acknowledged++
	}
	if acknowledged != jobs {
		t.Fatalf("%d of %d jobs were acknowledged", acknowledged, jobs)
	}
	store := servers[1].node.Store()
	waitFor(t, "all jobs", 60*time.Second, func() bool {
		done, _ := store.Jobs(state.JobFilter{State: api.JobSucceeded}, 0)
		return len(done) == jobs
	})
	for i := range jobs {
		job := fmt.Sprintf("j%03d", i)
		for _, a := range store.Attempts(job) {
			if a.State == api.AttemptSucceeded && a.Fence != mustStage(t, store, job, a.Stage).Fence {
				t.Errorf("%s/%s: attempt %d succeeded and is not the last", job, a.Stage, a.Number)
			}
		}
		waitFor(t, "the story of "+job, 10*time.Second, func() bool {
			log.mu.Lock()
			defer log.mu.Unlock()
			n := len(log.lines[job])
			return n > 0 && log.lines[job][n-1].Message == "job has succeeded"
		})
		log.story(t, job)
	}
	waitFor(t, "equal states", 10*time.Second, func() bool {
		return servers[1].node.Store().Hash() == servers[2].node.Store().Hash()
	})
}

func mustStage(t *testing.T, s *state.Store, job, name string) api.Stage {
	t.Helper()
	stage, err := s.Stage(job, name)
	if err != nil {
		t.Fatal(err)
	}
	return stage
}

// The one machine of a small mesh is switched off and on again: the job goes on
// by itself, within seconds.
func TestAMeshOfOneGoesOnAfterEverythingWasKilled(t *testing.T) {
	t.Parallel()
	log := &eventLog{next: map[string]uint64{}, lines: map[string][]api.Event{}}
	dir := t.TempDir()
	founding := func(c *consensus.Config) { c.Bootstrap, c.HeartbeatTimeout = true, 200*time.Millisecond }
	s := live(t, "s1", dir, log, founding)
	ctx, cancel := context.WithCancel(context.Background())
	first := newAgent("n1", s)
	first.gate = make(chan struct{}) // its stage goes on until the lights go out
	var loop sync.WaitGroup
	loop.Go(func() { first.run(ctx) })
	waitFor(t, "a leader", 20*time.Second, func() bool { return s.node.Stats().Ready })
	if _, err := s.node.Apply(ctx, state.CreateJob{Spec: api.JobSpec{ID: "j"}, Pipeline: diamond(), At: time.Now().UTC()}); err != nil {
		t.Fatal(err)
	}
	var old uint64
	waitFor(t, "a running attempt", 20*time.Second, func() bool {
		for _, a := range s.node.Store().Attempts("j") {
			old = a.Fence
			return a.State == api.AttemptRunning
		}
		return false
	})
	cancel()
	loop.Wait()
	s.stop()

	back := time.Now()
	s = live(t, "s1", dir, log, founding)
	ctx, cancel = context.WithCancel(context.Background())
	defer cancel()
	second := newAgent("n1", s)
	second.running[old] = true // it found the attempt's traces, and no process
	loop.Go(func() {
		_ = second.ask(ctx, func(s *liveServer) error {
			return s.d.Report(ctx, old, api.AttemptReport{State: api.AttemptFailed,
				Error: &api.StageError{Class: "interrupted", Code: "VANISHED", Message: "the process is gone", Retryable: true}})
		})
		second.mu.Lock()
		delete(second.running, old)
		second.mu.Unlock()
		second.run(ctx)
	})
	waitFor(t, "the job's end", 20*time.Second, func() bool {
		j, err := s.node.Store().Job("j")
		return err == nil && j.State == api.JobSucceeded
	})
	t.Logf("done %s after the restart", time.Since(back).Round(time.Millisecond))
	if a := mustStage(t, s.node.Store(), "j", "a"); a.Attempt != 2 || a.Tries != 0 {
		t.Errorf("stage %+v", a)
	}
	cancel()
	loop.Wait()
}

// BenchmarkSubmitToPlaced measures what a user waits for at least: from the
// submit to an attempt on a node, with one voter and fsync.
func BenchmarkSubmitToPlaced(b *testing.B) {
	n, err := consensus.Open(consensus.Config{ID: "s1", Dir: b.TempDir(), Bind: "127.0.0.1:0", Bootstrap: true, HeartbeatTimeout: 100 * time.Millisecond})
	if err != nil {
		b.Fatal(err)
	}
	d := dispatch.New(dispatch.Config{Raft: n, Store: n.Store()})
	ctx, cancel := context.WithCancel(context.Background())
	var loop sync.WaitGroup
	loop.Go(func() { n.WhileLeading(ctx, func(term context.Context) { _ = d.Run(term) }) })
	defer func() { cancel(); loop.Wait(); _ = n.Close() }()
	node := api.Node{ID: "n1", Digest: "d", Capability: api.Capability{CPU: api.CPU{Cores: 1 << 20}}}
	for {
		if _, err := n.Apply(ctx, state.UpsertNode{Node: node, At: time.Now()}); err == nil {
			if _, err := d.Heartbeat("n1", api.Heartbeat{Digest: "d"}); err == nil {
				break
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	var waits []time.Duration
	for i := 0; b.Loop(); i++ {
		if i%100 == 0 {
			_, _ = d.Heartbeat("n1", api.Heartbeat{Digest: "d"})
		}
		changed := n.Store().WatchNode("n1")
		start := time.Now()
		c := state.CreateJob{Spec: api.JobSpec{ID: fmt.Sprintf("j%06d", i)}, Pipeline: api.Pipeline{Nodes: []api.StageSpec{stage("a", "custom")}}, At: start.UTC()}
		if _, err := n.Apply(ctx, c); err != nil {
			b.Fatal(err)
		}
		<-changed
		waits = append(waits, time.Since(start))
		attempts := n.Store().AttemptsOnNode("n1")
		if err := d.Report(ctx, attempts[0].Fence, fine()); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(waits)
	b.ReportMetric(waits[len(waits)/2].Seconds()*1000, "p50-ms")
	b.ReportMetric(waits[len(waits)*99/100].Seconds()*1000, "p99-ms")
}
