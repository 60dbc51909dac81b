package consensus

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/failpoint"
)

// Apply proposes a command and returns what it did, once a quorum has it on
// disk and this server has applied it. The error is the domain's answer
// (*state.Error), or ErrNotLeader, ErrOverloaded or ErrDiskFull, after which
// nothing was done, or ErrUnknownOutcome.
func (n *Node) Apply(ctx context.Context, c state.Command) (state.Result, error) {
	entry, err := state.Encode(c)
	if err != nil {
		return state.Result{}, err
	}
	if need, have := state.Since(c), n.store.MinVersion(); need > have {
		return state.Result{}, fmt.Errorf("consensus: %w: %s needs protocol version %d, the mesh speaks %d: upgrade all servers first", ErrProtocol, c.Kind(), need, have)
	}
	if err := n.disk.check(); err != nil {
		return state.Result{}, err
	}
	if !n.IsLeader() {
		return state.Result{}, n.notLeader()
	}
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	if err := failpoint.At(failpoint.CommandUnlogged); err != nil {
		return state.Result{}, fmt.Errorf("%w: %w", ErrOverloaded, err)
	}
	future := n.raft.Apply(entry, timeLeft(ctx))
	if err := n.await(ctx, future); err != nil {
		return state.Result{}, fmt.Errorf("consensus: apply %s: %w", c.Kind(), err)
	}
	if err := failpoint.At(failpoint.CommandUnanswered); err != nil {
		return state.Result{}, fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
	done, ok := future.Response().(applied)
	if !ok {
		return state.Result{}, fmt.Errorf("consensus: apply %s: %w: no answer from the state", c.Kind(), ErrUnknownOutcome)
	}
	if done.fault != nil {
		return state.Result{}, fmt.Errorf("consensus: apply %s: %w: %w", c.Kind(), ErrUnknownOutcome, done.fault)
	}
	return done.result, done.result.Err
}

// Barrier returns once this server, as the leader, has applied everything that
// was committed before. It costs a log write; reads want ConsistentRead.
func (n *Node) Barrier(ctx context.Context) error {
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	future := n.raft.Barrier(timeLeft(ctx))
	if err := n.await(ctx, future); err != nil {
		return fmt.Errorf("consensus: barrier: %w", err)
	}
	// Raft does not hand barriers to the state machine, so their index has to
	// be counted here.
	if f, ok := future.(interface{ Index() uint64 }); ok {
		n.fsm.progress.reach(f.Index())
	}
	return nil
}

func (n *Node) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	if _, ok := ctx.Deadline(); ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, n.config.ApplyTimeout)
}

// timeLeft bounds the wait for a place in Raft's queue. Zero would be for ever.
func timeLeft(ctx context.Context) time.Duration {
	deadline, _ := ctx.Deadline()
	return max(time.Until(deadline), time.Millisecond)
}

// await waits for a future or the context and says what its error means.
func (n *Node) await(ctx context.Context, f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }()
	select {
	case err := <-done:
		return n.meaning(err)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
	case <-n.stop:
		// Raft forgets what it had committed and not applied when it shut down.
		return fmt.Errorf("%w: this server was closed", ErrUnknownOutcome)
	}
}

func (n *Node) meaning(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, raft.ErrNotLeader), errors.Is(err, raft.ErrLeadershipTransferInProgress), errors.Is(err, raft.ErrAbortedByRestore):
		return n.notLeader()
	case errors.Is(err, raft.ErrEnqueueTimeout):
		return fmt.Errorf("%w: %w", ErrOverloaded, err)
	default:
		// Leadership lost, shutdown, a failed write: it may be in a log.
		return fmt.Errorf("%w: %w", ErrUnknownOutcome, err)
	}
}

func (n *Node) notLeader() error {
	url, _ := n.LeaderHTTP()
	return &NotLeaderError{LeaderHTTP: url}
}
