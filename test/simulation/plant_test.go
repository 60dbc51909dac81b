package simulation

import (
	"context"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/consensus"
	"github.com/tunemesh/tunemesh/controlplane/dispatch"
	"github.com/tunemesh/tunemesh/controlplane/rest"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// plant is a bug that a rig is given, to see whether it is found. The zero value
// is none.
type plant struct {
	// forgottenEntries are fsynced entries that each crash takes along.
	forgottenEntries uint64
	// staleFences has the leader take a report of an attempt that was given up for
	// one of the current attempt.
	staleFences bool
	// staleReads has each server answer reads from what it has.
	staleReads bool
	// forgetfulLauncher has restarted agents not find what runs.
	forgetfulLauncher bool
	// drops says which batches of lines the event store loses a line of.
	drops func() bool
}

// proposing is Raft as dispatch proposes to it.
func (p plant) proposing(n *consensus.Node) dispatch.Raft {
	if p.staleFences {
		return takesStale{n}
	}
	return n
}

// reading is Raft as rest reads by it.
func (p plant) reading(n *consensus.Node) rest.Raft {
	if p.staleReads {
		return readsStale{n}
	}
	return n
}

type readsStale struct{ *consensus.Node }

// IsLeader implements rest.Raft, wrongly: nothing is passed on.
func (readsStale) IsLeader() bool { return true }

// Leading has rest not wait for the leadership that IsLeader claims.
func (readsStale) Leading(context.Context) error { return nil }

// ConsistentRead implements rest.Raft, wrongly.
func (readsStale) ConsistentRead(context.Context) error { return nil }

type takesStale struct{ *consensus.Node }

// Apply implements dispatch.Raft, wrongly.
func (t takesStale) Apply(ctx context.Context, c state.Command) (state.Result, error) {
	if reports, ok := c.(state.ReportAttempts); ok {
		for i, r := range reports.Reports {
			a, err := t.Store().Attempt(r.Fence)
			if err != nil || a.State != api.AttemptLost || r.Report.State != api.AttemptSucceeded {
				continue
			}
			if s, err := t.Store().Stage(a.JobID, a.Stage); err == nil && s.State == api.StageRunning {
				reports.Reports[i].Fence = s.Fence
			}
		}
	}
	return t.Node.Apply(ctx, c)
}
