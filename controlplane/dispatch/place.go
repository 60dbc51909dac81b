package dispatch

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/scheduler"
	"github.com/tunemesh/tunemesh/tracing"
)

const (
	// inFlight proposals at a time let Raft write many entries with one fsync.
	inFlight = 256
	// perRound bounds how long one plan is carried out before the next is made.
	perRound = 8192
	minPause = 5 * time.Millisecond
)

func (t *term) placeLoop(ctx context.Context) {
	used := reserved{}
	for {
		w := t.store.Watch(state.TopicReady, state.TopicNodes, state.TopicAttempts)
		start := time.Now()
		decision := scheduler.Plan(t.view(&used), t.config.Clock())
		planning := time.Since(start)
		t.config.Observer.Planned(planning)
		t.remember(decision)
		next := decision.NextAt
		if err := t.place(ctx, decision.Placements); err != nil && ctx.Err() == nil {
			t.config.Log.Warn("placements are delayed", "err", err)
			next = t.config.Clock().Add(time.Second)
		} else if len(decision.Placements) > perRound {
			next = t.config.Clock()
		}
		if !t.sleep(ctx, w, t.placePoke, next, planPause(planning, len(decision.Placements) > 0)) {
			return
		}
	}
}

// planPause keeps planning at a quarter of one core; at a tenth while nothing
// finds a place, within what somebody who waits for a free node does not notice.
func planPause(planning time.Duration, placed bool) time.Duration {
	pause := 3 * planning
	if !placed {
		pause = max(pause, min(9*planning, 300*time.Millisecond))
	}
	return max(pause, minPause)
}

// reserved remembers what is reserved on each node, so that a plan reads the
// attempts of those nodes only that have others since the last.
type reserved struct {
	restore uint64
	nodes   map[string]reservedOn
}

type reservedOn struct {
	index uint64 // of the node's desired set
	used  scheduler.Used
}

// on starts a plan on a view of the state.
func (r *reserved) on(s state.View) {
	if restore := s.Restores(); r.nodes == nil || r.restore != restore {
		r.nodes, r.restore = map[string]reservedOn{}, restore
	}
}

func (r *reserved) of(s state.View, node string) scheduler.Used {
	known, ok := r.nodes[node]
	if index := s.DesiredIndex(node); !ok || known.index != index {
		u := s.UsageOf(node)
		known = reservedOn{index, scheduler.Used{CPUCores: u.CPUCores, MemoryBytes: u.MemoryBytes, GPUs: u.GPUs, Slots: u.Slots}}
		r.nodes[node] = known
	}
	return known.used
}

// view is the scheduler's: the state with the leases laid over it.
func (t *term) view(used *reserved) scheduler.View {
	s := t.store.At()
	used.on(s)
	now := t.config.Clock()
	var v scheduler.View
	alive := t.alive(now)
	for _, n := range s.Nodes() {
		v.Nodes = append(v.Nodes, scheduler.Node{
			ID: n.ID, Name: n.Name, Labels: n.Labels, Drain: n.Drain,
			Alive: alive[n.ID], Capability: n.Capability, Used: used.of(s, n.ID),
		})
	}
	backoffs := map[stageKey]backoff{}
	s.EachReady(func(job *api.Job, stage *api.Stage) {
		r := scheduler.Request{JobID: stage.JobID, Stage: stage.Name, Kind: stage.Kind,
			Requires: stage.Requires, Priority: job.Priority, Since: job.CreatedAt}
		if stage.NotBefore != nil {
			key := stageKey{stage.JobID, stage.Name}
			backoffs[key] = t.backoffOf(stage, now)
			r.NotBefore = backoffs[key].until
		}
		v.Requests = append(v.Requests, r)
	})
	t.mu.Lock()
	t.backoffs = backoffs
	t.mu.Unlock()
	return v
}

// alive lists the nodes with a lease. Heartbeats wait for the lock that it
// holds, so the state is not read meanwhile.
func (t *term) alive(now time.Time) map[string]bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	alive := make(map[string]bool, len(t.leases))
	for id, l := range t.leases {
		if l.alive(now) {
			alive[id] = true
		}
	}
	return alive
}

// backoff is how long a stage that is tried again still waits, by this leader's
// clock.
type backoff struct {
	notBefore time.Time // as it stands in the state
	until     time.Time
}

// backoffOf bounds a wait by its own length. NotBefore was written by the leader
// of that time; if its clock was an hour ahead of this one's, the stage would
// wait that hour. NotBefore and ReadyAt are of the same clock, so their
// difference is right whatever it showed.
func (t *term) backoffOf(stage *api.Stage, now time.Time) backoff {
	t.mu.Lock()
	known, ok := t.backoffs[stageKey{stage.JobID, stage.Name}]
	t.mu.Unlock()
	if ok && known.notBefore.Equal(*stage.NotBefore) {
		return known
	}
	b := backoff{notBefore: *stage.NotBefore, until: *stage.NotBefore}
	if stage.ReadyAt != nil {
		if latest := now.Add(max(stage.NotBefore.Sub(*stage.ReadyAt), 0)); latest.Before(b.until) {
			b.until = latest
		}
	}
	return b
}

// placedAt is the time of a placement: now, but not before the time that the
// state holds a stage back until, which may be of a clock that was ahead.
func (t *term) placedAt(job, stage string) time.Time {
	now := t.config.Clock().UTC()
	t.mu.Lock()
	defer t.mu.Unlock()
	if b, ok := t.backoffs[stageKey{job, stage}]; ok && now.Before(b.notBefore) && !now.Before(b.until) {
		return b.notBefore.UTC()
	}
	return now
}

// remember keeps the reasons for WaitReason.
func (t *term) remember(d scheduler.Decision) {
	reasons := make(map[stageKey]string, len(d.Waits))
	for _, w := range d.Waits {
		reasons[stageKey{w.JobID, w.Stage}] = w.Reason
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.reasons = reasons
}

func (t *term) waitReason(job, stage string) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reasons[stageKey{job, stage}]
}

// place proposes the placements. What the state refuses has changed since the
// plan was made; the next plan sees it. The first other error ends the round.
func (t *term) place(ctx context.Context, placements []scheduler.Placement) error {
	var group errgroup.Group
	group.SetLimit(inFlight)
	var mu sync.Mutex
	var failed error
	for _, p := range placements[:min(len(placements), perRound)] {
		mu.Lock()
		stop := failed != nil
		mu.Unlock()
		if stop || ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			traced, span := tracing.Begin(tracing.Under(ctx, t.traceOf(p.JobID)), "place", "job", p.JobID, "stage", p.Stage, "node", p.NodeID)
			r, err := t.config.Raft.Apply(ctx, state.PlaceAttempt{JobID: p.JobID, Stage: p.Stage,
				NodeID: p.NodeID, Devices: p.Devices, Slot: p.Slot, TraceParent: tracing.Parent(traced), At: t.placedAt(p.JobID, p.Stage)})
			span.End(err)
			log := t.config.Log.With("job", p.JobID, "stage", p.Stage, "node", p.NodeID)
			var refused *state.Error
			switch {
			case err == nil:
				t.config.Observer.Placed(t.kindOf(p.JobID, p.Stage))
				log.Debug("placed", "fence", r.Fence)
			case errors.As(err, &refused):
				t.config.Observer.Refused()
				log.Debug("placement is out of date", "err", err)
			default:
				mu.Lock()
				failed = err
				mu.Unlock()
			}
			return nil
		})
	}
	_ = group.Wait()
	return failed
}

// kindOf is the kind of a stage; empty if the stage is gone.
func (t *term) kindOf(job, stage string) string {
	s, _ := t.store.Stage(job, stage)
	return s.Kind
}

// traceOf is the span that a job was submitted in; empty if it is not traced.
func (t *term) traceOf(job string) string {
	if !tracing.Enabled() {
		return ""
	}
	j, _ := t.store.Job(job)
	return j.TraceParent
}
