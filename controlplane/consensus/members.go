package consensus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/raft"

	"github.com/tunemesh/tunemesh/controlplane/state"
)

// HasState says whether a directory holds a log or a snapshot: then whoever owns
// it belongs to a cluster, or did. No server may run on it.
func HasState(dir string) (bool, error) {
	if _, err := os.Stat(filepath.Join(dir, "raft.db")); errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	bolt, err := openBolt(filepath.Join(dir, "raft.db"))
	if err != nil {
		return false, err
	}
	defer func() { _ = bolt.Close() }()
	snapshots, err := raft.NewFileSnapshotStore(dir, 2, nil)
	if err != nil {
		return false, fmt.Errorf("consensus: snapshots in %s: %w", dir, err)
	}
	there, err := raft.HasExistingState(bolt, bolt, snapshots)
	if err != nil {
		return false, fmt.Errorf("consensus: look into %s: %w", dir, err)
	}
	return there, nil
}

// Member is a server in Raft's configuration.
type Member struct {
	ID, Address string
	Voter       bool
}

// Members are the servers as this server's Raft knows them. On a server that was
// not reached by a leader yet there are none.
func (n *Node) Members() []Member {
	var out []Member
	for _, s := range n.raft.GetConfiguration().Configuration().Servers {
		out = append(out, Member{ID: string(s.ID), Address: string(s.Address), Voter: s.Suffrage == raft.Voter})
	}
	return out
}

// AddVoter lets another server take part, or changes its addresses. Only the
// leader can; it needs a quorum of the voters so far. The new server is opened
// on an empty directory, without Bootstrap.
func (n *Node) AddVoter(ctx context.Context, s state.Server) error {
	return n.add(ctx, s, n.raft.AddVoter)
}

// AddNonvoter is AddVoter for a server that only follows until AddVoter promotes
// it. A voter stays one.
func (n *Node) AddNonvoter(ctx context.Context, s state.Server) error {
	return n.add(ctx, s, n.raft.AddNonvoter)
}

func (n *Node) add(ctx context.Context, s state.Server, how func(raft.ServerID, raft.ServerAddress, uint64, time.Duration) raft.IndexFuture) error {
	if _, err := n.Apply(ctx, state.UpsertServer{Server: s}); err != nil {
		return err
	}
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	future := how(raft.ServerID(s.ID), raft.ServerAddress(s.RaftAddress), 0, time.Until(deadlineOf(ctx)))
	if err := n.await(ctx, future); err != nil {
		return fmt.Errorf("consensus: add server %s: %w", s.ID, err)
	}
	return nil
}

// RemoveServer ends a server's part. Only the leader can.
func (n *Node) RemoveServer(ctx context.Context, id string) error {
	bounded, cancel := n.bounded(ctx)
	defer cancel()
	future := n.raft.RemoveServer(raft.ServerID(id), 0, time.Until(deadlineOf(bounded)))
	if err := n.await(bounded, future); err != nil {
		return fmt.Errorf("consensus: remove server %s: %w", id, err)
	}
	if id == n.config.ID {
		return nil
	}
	_, err := n.Apply(ctx, state.RemoveServer{ID: id})
	return err
}

// TransferLeadership hands over to another voter, to any for an empty id, and
// returns once this server no longer leads.
func (n *Node) TransferLeadership(ctx context.Context, id string) error {
	if !n.IsLeader() {
		return n.notLeader()
	}
	var future raft.Future
	if id == "" {
		future = n.raft.LeadershipTransfer()
	} else {
		for _, m := range n.Members() {
			if m.ID == id {
				future = n.raft.LeadershipTransferToServer(raft.ServerID(id), raft.ServerAddress(m.Address))
			}
		}
	}
	if future == nil {
		return fmt.Errorf("consensus: hand over: there is no server %s", id)
	}
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() { done <- future.Error() }()
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("consensus: hand over: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("consensus: hand over: %w", ctx.Err())
	}
}

// Applied is the index up to which this server has applied the log.
func (n *Node) Applied() uint64 { return n.fsm.progress.at() }

// Committed is the newest index that this server knows to be on a quorum.
func (n *Node) Committed() uint64 { return n.raft.CommitIndex() }

// LeaderID is the leader's id, empty where none is known.
func (n *Node) LeaderID() string {
	_, id := n.raft.LeaderWithID()
	return string(id)
}

func deadlineOf(ctx context.Context) time.Time {
	d, _ := ctx.Deadline()
	return d
}

// RaftAddress is the host:port at which this server takes part.
func (n *Node) RaftAddress() string { return n.raftAddress }
