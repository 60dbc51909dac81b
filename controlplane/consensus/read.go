package consensus

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// readiness is the term in which this server leads and has applied all that
// earlier terms committed; 0 for none.
type readiness struct {
	mu      sync.Mutex
	term    uint64
	changed chan struct{}
}

func (r *readiness) set(term uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.term = term
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

func (r *readiness) get() (uint64, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.changed == nil {
		r.changed = make(chan struct{})
	}
	return r.term, r.changed
}

// ConsistentRead returns once reads of Store see everything that was
// acknowledged before the call (linearizable): the read-index method of the
// Raft thesis, section 6.4. It works on the leader alone, costs a round of
// heartbeats and no disk write.
func (n *Node) ConsistentRead(ctx context.Context) error {
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	term, err := n.leadingTerm(ctx)
	if err != nil {
		return err
	}
	index := n.raft.CommitIndex()
	if err := n.await(ctx, n.raft.VerifyLeader()); err != nil {
		// A read has no outcome to be unknown.
		if errors.Is(err, ErrUnknownOutcome) && ctx.Err() == nil {
			err = n.notLeader()
		}
		return fmt.Errorf("consensus: read: %w", err)
	}
	if n.raft.CurrentTerm() != term {
		return n.notLeader()
	}
	// Some entries (a new leader's first) never reach the state machine, so that
	// its progress can rest just below the commit index. A barrier settles it.
	short, cancelShort := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancelShort()
	if n.fsm.progress.wait(short, index) == nil {
		return nil
	}
	return n.Barrier(ctx)
}

// Leading returns once this server leads and has applied all that earlier terms
// committed: before that its state may lack what other leaders acknowledged. It
// fails where this server does not lead.
func (n *Node) Leading(ctx context.Context) error {
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	_, err := n.leadingTerm(ctx)
	return err
}

// leadingTerm waits until this server may answer as the leader.
func (n *Node) leadingTerm(ctx context.Context) (uint64, error) {
	for {
		term, changed := n.ready.get()
		if !n.IsLeader() {
			return 0, n.notLeader()
		}
		if term != 0 && term == n.raft.CurrentTerm() {
			return term, nil
		}
		// Bounded, because a server can stop leading without becoming ready.
		timer := time.NewTimer(100 * time.Millisecond)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return 0, n.notLeader()
		case <-n.stop:
			timer.Stop()
			return 0, n.notLeader()
		}
		timer.Stop()
	}
}

// WaitIndex returns once this server has applied the entry with an index:
// read your own writes on any server.
func (n *Node) WaitIndex(ctx context.Context, index uint64) error {
	if err := n.fsm.progress.wait(ctx, index); err != nil {
		return fmt.Errorf("consensus: wait for index %d (have %d): %w", index, n.fsm.progress.at(), err)
	}
	return nil
}

// IsLeader says whether this server believes that it leads.
func (n *Node) IsLeader() bool { return n.raft.State() == raft.Leader }

// LeaderHTTP is the base URL of the leader's API; false if it is not known.
func (n *Node) LeaderHTTP() (string, bool) {
	_, id := n.raft.LeaderWithID()
	if id == "" {
		return "", false
	}
	if string(id) == n.config.ID {
		return n.config.HTTPAddress, true
	}
	s, err := n.store.Server(string(id))
	if err != nil || s.HTTPAddress == "" {
		return "", false
	}
	return s.HTTPAddress, true
}

// LastContact is when this server last heard from its leader; on the leader it
// is now. Zero: never.
func (n *Node) LastContact() time.Time {
	if n.IsLeader() {
		return time.Now()
	}
	return n.raft.LastContact()
}

// Stats is what /metrics and support want to know.
type Stats struct {
	State        string `json:"state"`
	Term         uint64 `json:"term"`
	LastIndex    uint64 `json:"last_index"`
	CommitIndex  uint64 `json:"commit_index"`
	AppliedIndex uint64 `json:"applied_index"`
	StateIndex   uint64 `json:"state_index"`
	LeaderID     string `json:"leader_id,omitempty"`
	Voters       int    `json:"voters"`
	Ready        bool   `json:"ready"`
}

// Stats returns the server's figures.
func (n *Node) Stats() Stats {
	_, leader := n.raft.LeaderWithID()
	term, _ := n.ready.get()
	s := Stats{
		State: n.raft.State().String(), Term: n.raft.CurrentTerm(), LastIndex: n.raft.LastIndex(),
		CommitIndex: n.raft.CommitIndex(), AppliedIndex: n.fsm.progress.at(), StateIndex: n.store.Index(),
		LeaderID: string(leader), Ready: term != 0,
	}
	for _, m := range n.raft.GetConfiguration().Configuration().Servers {
		if m.Suffrage == raft.Voter {
			s.Voters++
		}
	}
	return s
}
