package consensus

import (
	"context"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/failpoint"
)

// LeadershipChanges tells when this server starts (true) and stops (false) to
// lead, in turns. True comes after the state has caught up with all earlier
// terms. A reader that is slow misses pairs that cancel out, never the latest
// state. There is one channel; it has one reader, WhileLeading or the caller.
func (n *Node) LeadershipChanges() <-chan bool { return n.changes }

// WhileLeading calls f whenever this server starts to lead and cancels f's
// context when it stops; calls never overlap. It returns when ctx ends or the
// node is closed, after f has returned.
func (n *Node) WhileLeading(ctx context.Context, f func(ctx context.Context)) {
	var running sync.WaitGroup
	defer running.Wait()
	stop := func() {}
	defer func() { stop() }()
	for {
		select {
		case leads := <-n.changes:
			stop()
			running.Wait()
			if leads {
				term, cancel := context.WithCancel(ctx)
				stop = cancel
				running.Go(func() { f(term) })
			}
		case <-ctx.Done():
			return
		case <-n.stop:
			return
		}
	}
}

// leaderLoop turns Raft's notices into LeadershipChanges. Raft keeps only its
// latest notice and never waits for us, so that two in a row may be the same:
// "leading" while we lead already means that we stopped and started again
// (Nomad's leader loop met that as nomad#4749).
func (n *Node) leaderLoop() {
	var pending turns
	for {
		var out chan<- bool
		if len(pending.queue) > 0 {
			out = n.changes
		}
		select {
		case leads := <-n.raft.LeaderCh():
			n.ready.set(0)
			if pending.latest() {
				pending.add(false)
			}
			if leads && n.establish() {
				pending.add(true)
			}
		case out <- pending.head():
			pending.sent()
		case <-n.stop:
			return
		}
	}
}

// turns is what the reader of LeadershipChanges has yet to hear: at most a stop
// and a start.
type turns struct {
	heard bool
	queue []bool
}

func (t *turns) latest() bool {
	if len(t.queue) > 0 {
		return t.queue[len(t.queue)-1]
	}
	return t.heard
}

func (t *turns) head() bool { return len(t.queue) > 0 && t.queue[0] }

func (t *turns) sent() {
	t.heard = t.queue[0]
	t.queue = t.queue[1:]
}

// add queues a change. A start that nobody heard of cancels out with its stop;
// a stop never does, because what ran before it must end.
func (t *turns) add(leads bool) {
	switch {
	case leads == t.latest():
	case !leads && len(t.queue) > 0:
		t.queue = t.queue[:len(t.queue)-1]
	default:
		t.queue = append(t.queue, leads)
	}
}

// establish makes a new leader ready: everything of earlier terms is applied,
// and the others can find this server's API. It says whether we still lead.
func (n *Node) establish() bool {
	log := n.config.Log
	for n.IsLeader() {
		term := n.raft.CurrentTerm()
		err := failpoint.At(failpoint.TermUnready)
		if err == nil {
			err = n.Barrier(context.Background())
		}
		if err == nil && n.IsLeader() && n.raft.CurrentTerm() == term {
			n.ready.set(term)
			n.announce()
			log.Info("this server leads", "term", term, "index", n.store.Index())
			return true
		}
		log.Warn("not ready to lead yet", "term", term, "err", err)
		timer := time.NewTimer(100 * time.Millisecond)
		select {
		case <-timer.C:
		case <-n.stop:
			timer.Stop()
			return false
		}
	}
	return false
}

// Self is what this server tells of itself.
func (n *Node) Self() state.Server {
	self := n.config.Self
	self.ID, self.RaftAddress, self.HTTPAddress, self.Index = n.config.ID, n.RaftAddress(), n.config.HTTPAddress, 0
	return self
}

// announce records where this server can be reached. A failure is no reason not
// to lead: on a full disk, say, reads still work.
func (n *Node) announce() {
	if n.config.HTTPAddress == "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), n.config.ApplyTimeout)
	defer cancel()
	self := n.Self()
	if have, err := n.store.Server(self.ID); err == nil {
		self.Index = have.Index
		if have == self {
			return
		}
	}
	if _, err := n.Apply(ctx, state.UpsertServer{Server: self}); err != nil {
		n.config.Log.Warn("cannot record this server's address", "err", err)
	}
}
