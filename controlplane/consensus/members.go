package consensus

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/tunemesh/tunemesh/controlplane/state"
)

// AddVoter lets another server take part, or changes its addresses. Only the
// leader can; it needs a quorum of the voters so far. The new server is opened
// on an empty directory, without Bootstrap.
func (n *Node) AddVoter(ctx context.Context, s state.Server) error {
	if _, err := n.Apply(ctx, state.UpsertServer{Server: s}); err != nil {
		return err
	}
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	future := n.raft.AddVoter(raft.ServerID(s.ID), raft.ServerAddress(s.RaftAddress), 0, time.Until(deadlineOf(ctx)))
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

func deadlineOf(ctx context.Context) time.Time {
	d, _ := ctx.Deadline()
	return d
}

// RaftAddress is the host:port at which this server takes part.
func (n *Node) RaftAddress() string { return n.raftAddress }
