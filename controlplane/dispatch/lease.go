package dispatch

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

const (
	// missedBeats in a row without a fence mean that its node does not run the
	// attempt: two can be a heartbeat under way while the attempt started.
	missedBeats = 3
	// neverStarted is how long a connected node may leave a placed attempt
	// alone: it gets the assignment within a poll, or its poll is broken.
	neverStarted = 2 * time.Minute
)

// lease is what the leader knows of a node's liveness.
type lease struct {
	// seen is false until the first heartbeat in this term.
	seen              bool
	lastSeen, expires time.Time
	load              api.NodeLoad // of the last heartbeat
	// silent: the lease ran out and attempts were marked unknown.
	silent bool
	// back: the node came (back), so that unknown attempts are known again.
	back bool
	// missed counts heartbeats in a row that did not name a live fence.
	missed map[uint64]int
	// vanished are fences that the node does not run, with the reason.
	vanished map[uint64]string
}

func (l *lease) alive(now time.Time) bool { return l.seen && now.Before(l.expires) }

// beatsPerSecond are how many heartbeats a second all nodes together send. More
// nodes send them less often, and their leases last longer (as Nomad's do, with
// its max_heartbeats_per_second): 10,000 nodes each 20 s with a lease of 80 s.
const beatsPerSecond = 500

// Interval is how often each of so many nodes sends a heartbeat.
func Interval(nodes int) time.Duration {
	return max(HeartbeatInterval, (time.Duration(nodes) * time.Second / beatsPerSecond).Round(time.Second))
}

// pace is how often each of so many nodes sends a heartbeat, and how long one
// counts.
func pace(c Config, nodes int) (interval, ttl time.Duration) {
	interval = Interval(nodes)
	return interval, max(c.LeaseTTL, 4*interval)
}

func (t *term) nodes() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.leases)
}

func (t *term) heartbeat(nodeID string, h api.Heartbeat) api.HeartbeatReply {
	view := t.store.At()
	node, err := view.Node(nodeID)
	if err != nil {
		return api.HeartbeatReply{}
	}
	reply := api.HeartbeatReply{Registered: node.Digest == h.Digest}
	reply.HeartbeatInterval, reply.LeaseTTL = pace(t.config, t.nodes())
	for _, fence := range h.Fences {
		a, err := view.Attempt(fence)
		if err != nil || a.State.Terminal() || a.NodeID != nodeID {
			reply.Stale = append(reply.Stale, fence)
		}
	}
	attempts := view.AttemptsOnNode(nodeID)
	now := t.config.Clock()

	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.leases[nodeID]
	if l == nil {
		l = &lease{}
		t.leases[nodeID] = l
	}
	l.load = h.Load
	if !l.alive(now) {
		l.back = true
		poke(t.placePoke)
		poke(t.leasePoke)
	}
	// Never sooner than what an earlier answer granted.
	if expires := now.Add(reply.LeaseTTL); !l.seen || expires.After(l.expires) {
		l.expires = expires
	}
	l.seen, l.silent, l.lastSeen = true, false, now
	if l.count(attempts, h.Fences, now) {
		poke(t.leasePoke)
	}
	return reply
}

// count notes which live attempts a heartbeat did not name, and says whether
// one has to be given up.
func (l *lease) count(attempts []api.Attempt, named []uint64, now time.Time) bool {
	var missed map[uint64]int // mostly none are
	found := false
	for _, a := range attempts {
		if slices.Contains(named, a.Fence) {
			continue
		}
		if missed == nil {
			missed = map[uint64]int{}
		}
		missed[a.Fence] = l.missed[a.Fence] + 1
		if missed[a.Fence] < missedBeats {
			continue
		}
		reason := "its node no longer runs it"
		if a.StartedAt == nil {
			if now.Sub(a.PlacedAt) < neverStarted {
				continue
			}
			reason = "its node never started it"
		}
		if l.vanished == nil {
			l.vanished = map[uint64]string{}
		}
		l.vanished[a.Fence] = reason
		found = true
	}
	l.missed = missed
	return found
}

// verdict is what the lease loop has to propose.
type verdict struct {
	unknown, back []uint64
	lost          []state.Loss
	// next is when a lease or a grace runs out; zero for never.
	next time.Time
}

func (v *verdict) empty() bool { return len(v.unknown)+len(v.back)+len(v.lost) == 0 }

func (v *verdict) by(at time.Time) {
	if v.next.IsZero() || at.Before(v.next) {
		v.next = at
	}
}

func (t *term) leaseLoop(ctx context.Context) {
	for {
		w := t.store.Watch(state.TopicAttempts, state.TopicNodes)
		now := t.config.Clock()
		v := t.judge(now)
		err := t.carryOut(ctx, v, now)
		switch {
		case err != nil && ctx.Err() == nil:
			t.config.Log.Warn("cannot record what became of attempts on silent nodes", "err", err)
			v.by(now.Add(time.Second))
		case !v.empty():
			// A grace of zero is over at once.
			v.next = now
		}
		if !t.sleep(ctx, w, t.leasePoke, v.next, 50*time.Millisecond) {
			return
		}
	}
}

// judge looks at all leases. What it decides is repeated until it is carried
// out: the state, not this memory, says whether it was.
func (t *term) judge(now time.Time) verdict {
	view := t.store.At()
	var v verdict
	var back []string
	silent := map[string]time.Time{} // with the end of the lease
	t.mu.Lock()
	for id, l := range t.leases {
		switch {
		case now.Before(l.expires):
			v.by(l.expires)
			if l.back {
				back = append(back, id)
			}
		default:
			if !l.silent {
				l.silent = true
				t.config.Observer.LeaseExpired()
				t.config.Log.Warn("node is disconnected", "node", id, "last_seen", l.lastSeen)
				poke(t.placePoke)
			}
			silent[id] = l.expires
		}
		for fence, reason := range l.vanished {
			if a, err := view.Attempt(fence); err != nil || a.State.Terminal() {
				delete(l.vanished, fence)
			} else {
				v.lost = append(v.lost, state.Loss{Fence: fence, Reason: reason, RetryAt: t.retryLost(view, a, now)})
			}
		}
	}
	t.mu.Unlock()
	for id, since := range silent {
		t.judgeSilent(view, id, since, now, &v)
	}
	for _, id := range back {
		settled := true
		for _, a := range view.AttemptsOnNode(id) {
			if a.State == api.AttemptUnknown {
				v.back = append(v.back, a.Fence)
				settled = false
			}
		}
		if settled {
			t.mu.Lock()
			t.leases[id].back = false
			t.mu.Unlock()
		}
	}
	return v
}

// judgeSilent gives up what has been unknown for its grace, counted from the end
// of the lease on this leader's monotonic clock. UnknownAt would be another
// leader's wall clock; a grace that starts anew with a new leader only makes the
// agent stop even more surely first.
func (t *term) judgeSilent(view state.View, node string, since, now time.Time, v *verdict) {
	for _, a := range view.AttemptsOnNode(node) {
		if a.State != api.AttemptUnknown {
			v.unknown = append(v.unknown, a.Fence)
			continue
		}
		stage, err := view.Stage(a.JobID, a.Stage)
		if err != nil {
			continue
		}
		grace := stage.DisconnectGrace()
		until := since.Add(grace)
		if now.Before(until) {
			v.by(until)
			continue
		}
		reason := "its node is disconnected"
		if grace > 0 {
			reason += " for more than " + grace.String()
		}
		v.lost = append(v.lost, state.Loss{Fence: a.Fence, Reason: reason, RetryAt: t.retryLost(view, a, now)})
	}
}

func (t *term) retryLost(view state.View, a api.Attempt, now time.Time) time.Time {
	return now.UTC().Add(t.interruptedDelay(view.Interruptions(a.JobID, a.Stage)))
}

// perEntry bounds the fences in one entry, far below the limit on its size.
const perEntry = 1000

func (t *term) carryOut(ctx context.Context, v verdict, now time.Time) error {
	var errs []error
	at := now.UTC()
	propose := func(c state.Command) bool {
		_, err := t.config.Raft.Apply(ctx, c)
		if err != nil {
			errs = append(errs, err)
		}
		return err == nil
	}
	for fences := range slices.Chunk(v.back, perEntry) {
		propose(state.Reconnected{Fences: fences, At: at})
	}
	for fences := range slices.Chunk(v.unknown, perEntry) {
		propose(state.MarkUnknown{Fences: fences, At: at})
	}
	for losses := range slices.Chunk(v.lost, perEntry) {
		if propose(state.MarkLost{Losses: losses, At: at}) {
			t.observeLost(losses)
		}
	}
	return errors.Join(errs...)
}

func (t *term) observeLost(losses []state.Loss) {
	for _, l := range losses {
		if a, err := t.store.Attempt(l.Fence); err == nil && a.State == api.AttemptLost {
			t.config.Observer.Lost(t.kindOf(a.JobID, a.Stage))
		}
	}
}

func (t *term) fillNode(n *api.Node) {
	now := t.config.Clock()
	t.mu.Lock()
	defer t.mu.Unlock()
	l := t.leases[n.ID]
	if l == nil {
		return
	}
	if l.seen {
		seen := l.lastSeen.UTC()
		n.LastSeen = &seen
		if load := l.load; l.alive(now) {
			n.Load = &load
		}
	}
	switch {
	case l.alive(now):
		n.Status = api.NodeAlive
	case !now.Before(l.expires):
		n.Status = api.NodeDisconnected
	}
}
