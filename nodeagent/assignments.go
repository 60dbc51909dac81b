package nodeagent

import (
	"context"
	"os"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/failpoint"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

// followAssignments polls the node's desired set and makes what runs here equal
// to it. Every answer is the whole truth: a lost or repeated one does no harm.
func (a *Agent) followAssignments(ctx, work context.Context, registered <-chan struct{}) {
	select {
	case <-registered:
	case <-ctx.Done():
		return
	}
	var index uint64
	failures := 0
	for ctx.Err() == nil {
		set, err := a.cp.Assignments(ctx, a.id.NodeID, index, a.cfg.PollWait)
		if ctx.Err() != nil {
			return // an answer that came with the end starts nothing
		}
		if err != nil {
			a.cfg.Logger.Debug("assignments cannot be had", "error", err)
			sleep(ctx, a.backoff(failures))
			failures++
			continue
		}
		failures = 0
		if index > set.Index {
			index = 0 // the control plane was set back
		} else {
			index = set.Index
		}
		a.reconcile(work, set)
	}
}

// reconcile starts what is new and stops what vanished.
func (a *Agent) reconcile(work context.Context, set api.Assignments) {
	wanted := map[uint64]bool{}
	var fresh []api.Assignment
	a.mu.Lock()
	for _, as := range set.Attempts {
		wanted[as.Fence] = true
		if a.runners[as.Fence] == nil && !a.settled[as.Fence] {
			fresh = append(fresh, as)
		}
	}
	for fence, r := range a.runners {
		if !wanted[fence] {
			r.stop(reasonCancelled)
		}
	}
	for fence := range a.settled {
		if !wanted[fence] {
			delete(a.settled, fence)
		}
	}
	a.mu.Unlock()
	for _, as := range fresh {
		a.accept(work, as)
	}
}

// accept writes down the intent to run an attempt, and begins it.
func (a *Agent) accept(work context.Context, as api.Assignment) {
	log := a.cfg.Logger.With("job", as.JobID, "stage", as.Stage.Name, "fence", as.Fence)
	rec := record{Version: recordVersion, Assignment: withoutLinks(as), Phase: phasePrepare}
	p := a.attemptPaths(as.Fence)
	if err := checkAssignment(as); err != nil {
		rec.Phase, rec.Failure = phaseExited, failure(contract.ClassInternal, "BAD_ASSIGNMENT", "%v", err)
	}
	_ = os.RemoveAll(p.root)
	err := os.MkdirAll(p.launch(), 0o750)
	if err == nil {
		err = p.save(rec)
	}
	if err == nil {
		err = failpoint.At(failpoint.AttemptUnbegun)
	}
	if err == nil {
		err = a.begin(work, rec, &as)
	}
	if err != nil {
		// It stays wanted, so it is tried again with the next answer; the lease
		// of an attempt that never runs ends at the control plane.
		log.Error("attempt cannot be begun", "error", err)
		return
	}
	log.Info("attempt begun", "attempt", as.Attempt)
}
