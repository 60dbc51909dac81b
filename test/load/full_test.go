package load

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sync/errgroup"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
)

// profile is how large the test is.
type profile struct {
	agents, viewers, submitters int
	rate                        int           // submits offered a second
	traffic, saturation, idle   time.Duration // how long
	restart                     int           // stages that a restart finds
}

func chosen(t *testing.T) profile {
	p := profile{agents: 500, viewers: 1000, submitters: 64, rate: 50, traffic: 15 * time.Second, saturation: 5 * time.Second, idle: 5 * time.Second, restart: 5_000}
	switch minutes, err := strconv.ParseFloat(os.Getenv("TUNEMESH_LOAD"), 64); {
	case err == nil && minutes > 0:
		p.rate, p.traffic, p.saturation, p.idle, p.restart = 200, time.Duration(minutes*float64(time.Minute)), 20*time.Second, 30*time.Second, 100_000
	case os.Getenv("TUNEMESH_SLOW") == "":
		t.Skip("takes minutes: set TUNEMESH_LOAD to minutes of traffic, or TUNEMESH_SLOW=1 for the short form")
	}
	p.rate = size("TUNEMESH_RATE", p.rate)
	p.restart = size("TUNEMESH_STAGES", p.restart)
	return p
}

// delays gathers durations.
type delays struct {
	mu   sync.Mutex
	list []time.Duration
}

func (d *delays) add(t time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.list = append(d.list, t)
}

func (d *delays) at(q float64) time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.list) == 0 {
		return 0
	}
	slices.Sort(d.list)
	return d.list[int(q*float64(len(d.list)-1))].Round(10 * time.Microsecond)
}

func (d *delays) String() string {
	return fmt.Sprintf("p50 %v, p99 %v, longest %v of %d", d.at(.5), d.at(.99), d.at(1), len(d.list))
}

// watchedStage is the stage that writes lines for the viewers.
const watchedStage = "watched"

// run is one test in progress.
type run struct {
	t       *testing.T
	profile profile
	leader  *server
	user    *client.Client
	ds      api.Dataset

	mu                        sync.Mutex
	asked                     map[string]time.Time // jobs, when they were submitted
	ended                     map[string]time.Time // jobs, when their first stage's end was accepted
	commit, assigned, between delays
	lines                     int // of the watched stage
	viewersReady              chan struct{}
}

// TestLoad is T15 of the reliability plan: 500 nodes, 1,000 viewers of one job
// and 64 submitters on three servers. Nothing may be lost, no lease may run out
// and every viewer must see every line once; how fast all that was is printed.
func TestLoad(t *testing.T) {
	p := chosen(t)
	servers := cluster(t)
	leader := servers[0]
	for _, s := range servers {
		if s.leads(t) {
			leader = s
		}
	}
	user := leader.client(leader.token(t, "admin.token"), transport())
	r := &run{t: t, profile: p, leader: leader, user: user, ds: upload(t, user), asked: map[string]time.Time{}, ended: map[string]time.Time{},
		lines: int(p.traffic/time.Second) * 10, viewersReady: make(chan struct{})}
	f := join(t, leader, p.agents, 64)
	f.run = r.stage
	f.beat()

	watched := ulid.Make().String()
	if _, err := user.SubmitJob(t.Context(), api.JobSpec{ID: watched, Dataset: r.ds.ID, Pipeline: &api.Pipeline{Nodes: []api.StageSpec{
		{Name: watchedStage, Command: []string{"true"}, Requires: api.Requirements{CPUCores: 1}}}}}); err != nil {
		t.Fatal(err)
	}
	views, seen := r.view(watched)
	before := leader.used(t)
	began := time.Now()
	jobs := r.submit()
	t.Logf("%d submitters, %d jobs of two stages offered a second, %.0f a second done", p.submitters, p.rate, float64(len(jobs))/time.Since(began).Seconds())
	views()
	t.Logf("submit to its acknowledgement: %v", &r.commit)
	t.Logf("submit to the assignment at its node: %v", &r.assigned)
	t.Logf("end of a stage to the assignment of the next: %v", &r.between)
	t.Logf("line to each of %d viewers: %v", p.viewers, seen)
	t.Logf("leader: %.2f cores, %d MB", (leader.used(t).cpu-before.cpu).Seconds()/time.Since(began).Seconds(), leader.used(t).rss>>20)
	jobs = append(jobs, r.saturate()...)
	r.allSucceeded(append(jobs, watched))

	if n := leader.expiries(t); n > 0 {
		t.Errorf("%d leases ran out", n)
	}
	r.silence(f)
	rss, cores := idleAgent(t, leader, p.idle)
	t.Logf("an idle agent: %d MB, %.2f %% of a core", rss>>20, cores*100)
	f.leave()
	var stops sync.WaitGroup
	for _, s := range servers {
		stops.Go(s.stop)
	}
	stops.Wait()
	restart(t, p.restart)
}

// stage is what a simulated node does with an assignment.
func (r *run) stage(ctx context.Context, n *node, a api.Assignment) {
	now := time.Now()
	r.mu.Lock()
	asked, mine := r.asked[a.JobID]
	ended, second := r.ended[a.JobID]
	r.mu.Unlock()
	switch {
	case a.Stage.Name == watchedStage:
		r.write(ctx, n, a)
	case second && mine:
		r.between.add(now.Sub(ended))
	case mine:
		r.assigned.add(now.Sub(asked))
	}
	report := func(state api.AttemptState) {
		for ctx.Err() == nil {
			err := n.c.ReportAttempt(ctx, a.Fence, api.AttemptReport{State: state, Output: []byte(`{}`)})
			var p *api.Problem
			if err == nil || errors.As(err, &p) && p.Status < 500 {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}
	r.mu.Lock()
	if a.Stage.Name == "s0" {
		// The next may be assigned before this report is answered.
		r.ended[a.JobID] = time.Now()
	}
	r.mu.Unlock()
	report(api.AttemptSucceeded)
}

// write sends ten lines a second, each once.
func (r *run) write(ctx context.Context, n *node, a api.Assignment) {
	select {
	case <-r.viewersReady:
	case <-ctx.Done():
	}
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for i := 1; i <= r.lines && ctx.Err() == nil; i++ {
		<-tick.C
		batch := api.EventBatch{FirstSeq: uint64(i), Events: []api.Event{{Level: api.LevelInfo, Timestamp: time.Now(), Message: "line " + strconv.Itoa(i)}}}
		for ctx.Err() == nil {
			if _, err := n.c.AppendEvents(ctx, a.Fence, batch); err == nil {
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
}

// view follows a job with all viewers; wait returns when each has seen its end.
func (r *run) view(job string) (wait func(), seen *delays) {
	seen = &delays{}
	var all, ready sync.WaitGroup
	ctx, cancel := context.WithTimeout(r.t.Context(), r.profile.traffic+3*time.Minute)
	connections := transport()
	viewer := r.leader.client(r.leader.token(r.t, "admin.token"), connections)
	enough := errors.New("all lines")
	var whole atomic.Int64
	for range r.profile.viewers {
		ready.Add(1)
		all.Go(func() {
			first := sync.OnceFunc(ready.Done)
			defer first()
			due := 1
			err := viewer.Events(ctx, job, 0, true, func(e api.Event) error {
				first()
				if e.Level != api.LevelInfo {
					return nil
				}
				if e.Message != "line "+strconv.Itoa(due) {
					return fmt.Errorf("%q came where line %d was due", e.Message, due)
				}
				seen.add(time.Since(e.Timestamp))
				if due++; due > r.lines {
					return enough
				}
				return nil
			})
			if errors.Is(err, enough) {
				whole.Add(1)
			} else {
				r.t.Errorf("a viewer's stream ended before line %d of %d: %v", due, r.lines, err)
			}
		})
	}
	ready.Wait()
	close(r.viewersReady)
	return func() {
		all.Wait()
		cancel()
		connections.CloseIdleConnections()
		r.t.Logf("%d of %d viewers saw all %d lines once and in order", whole.Load(), r.profile.viewers, r.lines)
	}, seen
}

// twoStages is a pipeline of a stage and its successor.
func twoStages() *api.Pipeline {
	p := stages(2)
	p.Edges = []api.Edge{{From: "s0", To: "s1"}}
	return p
}

// submit offers jobs at the profile's rate and returns those acknowledged.
func (r *run) submit() []string {
	end := time.Now().Add(r.profile.traffic)
	pause := time.Duration(r.profile.submitters) * time.Second / time.Duration(r.profile.rate)
	return r.submitters(func(i, done int) bool {
		due := end.Add(-r.profile.traffic + pause*time.Duration(done) + pause*time.Duration(i)/time.Duration(r.profile.submitters))
		time.Sleep(time.Until(due))
		return due.Before(end) && time.Now().Before(end)
	}, func(id string) error {
		r.mu.Lock()
		r.asked[id] = time.Now()
		r.mu.Unlock()
		began := time.Now()
		_, err := r.user.SubmitJob(r.t.Context(), api.JobSpec{ID: id, Dataset: r.ds.ID, Pipeline: twoStages()})
		r.commit.add(time.Since(began))
		return err
	})
}

// saturate has all submitters submit as fast as they are answered.
func (r *run) saturate() []string {
	var took delays
	end := time.Now().Add(r.profile.saturation)
	began := time.Now()
	jobs := r.submitters(func(int, int) bool { return time.Now().Before(end) }, func(id string) error {
		began := time.Now()
		_, err := r.user.SubmitJob(r.t.Context(), api.JobSpec{ID: id, Dataset: r.ds.ID, Pipeline: stages(1)})
		took.add(time.Since(began))
		return err
	})
	r.t.Logf("saturation, %d clients: %.0f jobs a second acknowledged, %v", r.profile.submitters, float64(len(jobs))/time.Since(began).Seconds(), &took)
	return jobs
}

// submitters call submit while more says so, each with ids of its own.
func (r *run) submitters(more func(submitter, done int) bool, submit func(id string) error) (jobs []string) {
	var group sync.WaitGroup
	var mu sync.Mutex
	for i := range r.profile.submitters {
		group.Go(func() {
			for done := 0; more(i, done); done++ {
				id := ulid.Make().String()
				if err := submit(id); err != nil {
					r.t.Errorf("submit: %v", err)
					return
				}
				mu.Lock()
				jobs = append(jobs, id)
				mu.Unlock()
			}
		})
	}
	group.Wait()
	return jobs
}

// allSucceeded waits until every acknowledged job has.
func (r *run) allSucceeded(jobs []string) {
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*time.Minute)
	defer cancel()
	began := time.Now()
	var group errgroup.Group
	group.SetLimit(8)
	for _, id := range jobs {
		group.Go(func() error {
			for {
				j, err := r.user.Job(ctx, id)
				if err == nil && j.State == api.JobSucceeded {
					return nil
				}
				var p *api.Problem
				switch {
				case errors.As(err, &p) && p.Type == api.ProblemNotFound:
					return fmt.Errorf("job %s was acknowledged and is lost", id)
				case ctx.Err() != nil || err == nil && j.State.Terminal():
					return fmt.Errorf("job %s is %s: %s %w", id, j.State, j.Reason, err)
				}
				time.Sleep(50 * time.Millisecond)
			}
		})
	}
	if err := group.Wait(); err != nil {
		r.t.Error(err)
		return
	}
	r.t.Logf("all %d jobs succeeded, the last %v after the last submit", len(jobs), time.Since(began).Round(time.Millisecond))
}

// silence has one node fall silent and waits until the mesh says so.
func (r *run) silence(f *fleet) {
	n := f.nodes[0]
	n.die()
	began := time.Now()
	for {
		have, err := r.user.Node(r.t.Context(), n.id)
		if err == nil && have.Status == api.NodeDisconnected {
			r.t.Logf("a node that falls silent is disconnected after %v", time.Since(began).Round(10*time.Millisecond))
			return
		}
		if time.Since(began) > time.Minute {
			r.t.Errorf("a silent node is %s after a minute: %v", have.Status, err)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// restart measures how long a server with so many stages takes from its start to
// being ready, and that they are all there.
func restart(t *testing.T, queued int) {
	s := startServer(t)
	user := s.client(s.token(t, "admin.token"), transport())
	ds := upload(t, user)
	const perJob = 50
	var jobs atomic.Int64
	group, ctx := errgroup.WithContext(t.Context())
	group.SetLimit(16)
	for range queued / perJob {
		group.Go(func() error {
			_, err := user.SubmitJob(ctx, api.JobSpec{ID: ulid.Make().String(), Dataset: ds.ID, Pipeline: stages(perJob)})
			jobs.Add(1)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	s.stop()
	began := time.Now()
	again := launch(t, s.dir, s.args...)
	again.await(t)
	took := time.Since(began)
	list, err := again.client(again.token(t, "admin.token"), transport()).Jobs(t.Context())
	if err != nil || int64(len(list)) != jobs.Load() {
		t.Errorf("%d jobs after the restart (%v), want %d", len(list), err, jobs.Load())
	}
	t.Logf("restart with %d queued stages: ready after %v, %d MB", queued, took.Round(10*time.Millisecond), again.used(t).rss>>20)
}
