package dispatch

import (
	"context"
	"errors"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/failpoint"
	"github.com/tunemesh/tunemesh/scheduler"
	"github.com/tunemesh/tunemesh/tracing"
)

const (
	// inFlight entries at a time: the next are encoded and written while one is
	// applied. Single placements need more, to share one fsync.
	inFlight, inFlightSingle = 4, 256
	// perRound bounds how long one plan is carried out before the next is made.
	perRound = 8192
	minPause = 5 * time.Millisecond
)

func (t *term) placeLoop(ctx context.Context) {
	used := reserved{}
	for {
		w := t.store.Watch(state.TopicReady, state.TopicNodes, state.TopicAttempts)
		start := time.Now()
		decision := t.decide(t.view(&used))
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

// holdPause is how soon it is looked again whether stages may be placed.
const holdPause = time.Second

// decide plans, unless nothing may be placed for now: a stage that is started
// without the object store fails, and a failure counts.
func (t *term) decide(v scheduler.View) scheduler.Decision {
	now := t.config.Clock()
	if t.config.Hold == nil {
		return scheduler.Plan(v, now)
	}
	why := t.config.Hold()
	if why == "" {
		return scheduler.Plan(v, now)
	}
	d := scheduler.Decision{NextAt: now.Add(holdPause)}
	for _, r := range v.Requests {
		d.Waits = append(d.Waits, scheduler.Wait{JobID: r.JobID, Stage: r.Stage, Reason: why})
	}
	return d
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

// of takes the index of the node's desired set.
func (r *reserved) of(s state.View, node string, index uint64) scheduler.Used {
	known, ok := r.nodes[node]
	if !ok || known.index != index {
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
	v.Nodes = make([]scheduler.Node, 0, len(used.nodes))
	s.EachNode(func(n *api.Node, desired uint64) {
		v.Nodes = append(v.Nodes, scheduler.Node{
			ID: n.ID, Name: n.Name, Labels: n.Labels, Drain: n.Drain,
			Alive: alive[n.ID], Capability: n.Capability, Used: used.of(s, n.ID, desired),
		})
	})
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
	placements = placements[:min(len(placements), perRound)]
	// A server of before protocol version 3 knows no batches.
	limit, batches, propose := inFlightSingle, slices.Chunk(placements, 1), t.proposeOne
	if t.store.CanBatch() {
		limit, batches, propose = inFlight, batched(placements), t.proposeBatch
	}
	var group errgroup.Group
	group.SetLimit(limit)
	var mu sync.Mutex
	var failed error
	for batch := range batches {
		mu.Lock()
		stop := failed != nil
		mu.Unlock()
		if stop || ctx.Err() != nil {
			break
		}
		group.Go(func() error {
			if err := t.carry(ctx, batch, propose); err != nil {
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

// perBatch placements are one entry. A plan's are proposed node by node: what a
// node gets comes with one answer to its poll rather than with many.
const perBatch = 128

func batched(list []scheduler.Placement) iter.Seq[[]scheduler.Placement] {
	slices.SortStableFunc(list, func(a, b scheduler.Placement) int { return strings.Compare(a.NodeID, b.NodeID) })
	return slices.Chunk(list, perBatch)
}

type proposal func(ctx context.Context, list []state.PlaceAttempt) (state.Result, error)

func (t *term) proposeOne(ctx context.Context, list []state.PlaceAttempt) (state.Result, error) {
	r, err := t.config.Raft.Apply(ctx, list[0])
	r.Placed = []state.Placed{{Fence: r.Fence, Number: r.Number}}
	return r, err
}

func (t *term) proposeBatch(ctx context.Context, list []state.PlaceAttempt) (state.Result, error) {
	return t.config.Raft.Apply(ctx, state.PlaceAttempts{Placements: list})
}

// carry proposes one entry and tells what became of each placement.
func (t *term) carry(ctx context.Context, batch []scheduler.Placement, propose proposal) error {
	list := make([]state.PlaceAttempt, len(batch))
	ends := make([]func(error), len(batch))
	for i, p := range batch {
		traced, span := tracing.Begin(tracing.Under(ctx, t.traceOf(p.JobID)), "place", "job", p.JobID, "stage", p.Stage, "node", p.NodeID)
		ends[i] = span.End
		list[i] = state.PlaceAttempt{JobID: p.JobID, Stage: p.Stage, NodeID: p.NodeID, Devices: p.Devices, Slot: p.Slot,
			TraceParent: tracing.Parent(traced), At: t.placedAt(p.JobID, p.Stage)}
	}
	result, err := propose(ctx, list)
	if err == nil {
		_ = failpoint.At(failpoint.PlacementUnheard)
	}
	var refused *state.Error
	for i, p := range batch {
		err := err
		if err == nil && i < len(result.Errs) {
			err = result.Errs[i]
		}
		ends[i](err)
		switch {
		case err == nil:
			t.config.Observer.Placed(t.kindOf(p.JobID, p.Stage))
			t.config.Log.Debug("placed", "job", p.JobID, "stage", p.Stage, "node", p.NodeID, "fence", result.Placed[i].Fence)
		case errors.As(err, &refused):
			t.config.Observer.Refused()
			t.config.Log.Debug("placement is out of date", "job", p.JobID, "stage", p.Stage, "node", p.NodeID, "err", err)
		}
	}
	if errors.As(err, &refused) {
		return nil
	}
	return err
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
