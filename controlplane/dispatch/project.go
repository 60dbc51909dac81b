package dispatch

import (
	"context"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/failpoint"
)

// projectLoop writes each job's transitions to its event log, each exactly
// once: they are numbered in the state, the log says which it wants next, and
// what it has is passed over. When a job has ended and all are archived (or stand
// in the log, where nothing is archived), the state forgets them.
func (t *term) projectLoop(ctx context.Context) {
	// next is the number of the transition that a job's log wants next, for the
	// jobs that have not ended.
	next := map[string]uint64{}
	failed := map[string]bool{}
	var changes follower
	for {
		w := t.store.Watch(state.TopicTransitions)
		start := time.Now()
		var again time.Time
		view, backlogs, anew := changes.read(t.store)
		if anew {
			clear(next)
			clear(failed)
		}
		for _, b := range backlogs {
			delete(failed, b.JobID)
		}
		for job := range failed {
			if b, ok := view.Backlog(job); ok {
				backlogs = append(backlogs, b)
			}
		}
		clear(failed)
		var mu sync.Mutex
		var group errgroup.Group
		group.SetLimit(projections)
		for _, b := range backlogs {
			if ctx.Err() != nil {
				break
			}
			mu.Lock()
			wants := next[b.JobID]
			mu.Unlock()
			group.Go(func() error {
				wants, err := t.project(ctx, b, wants)
				mu.Lock()
				defer mu.Unlock()
				next[b.JobID] = wants
				switch {
				case err != nil:
					failed[b.JobID] = true
					if ctx.Err() == nil {
						t.config.Log.Warn("state changes are not in the event log yet", "job", b.JobID, "err", err)
						again = t.config.Clock().Add(time.Second)
					}
				case b.Terminal:
					// Should it go on, its log says again what it wants.
					delete(next, b.JobID)
				}
				return nil
			})
		}
		_ = group.Wait()
		if !t.sleep(ctx, w, nil, again, projectPause(time.Since(start))) {
			return
		}
	}
}

// projectPause lets state changes gather while many come. A round that took long
// waited for a disk and not for a core: the changes after it do not wait for a
// multiple of that.
func projectPause(took time.Duration) time.Duration {
	return max(min(4*took, 200*time.Millisecond), minPause)
}

// project writes what a job's log lacks, and returns what it wants next, given
// what it wanted before (0: not known).
func (t *term) project(ctx context.Context, b state.Backlog, wants uint64) (uint64, error) {
	for wants <= b.Last {
		transitions := t.store.Transitions(b.JobID, max(wants, 1)-1)
		if len(transitions) == 0 {
			break
		}
		first := transitions[0].Number
		events := make([]api.Event, 0, len(transitions))
		if wants > 0 && wants < first {
			// The log lost more than the state remembers. Say so rather than stop.
			for n := wants; n < first; n++ {
				events = append(events, forgotten(b.JobID, n, transitions[0].At))
			}
			first = wants
		}
		for _, tr := range transitions {
			events = append(events, eventOf(tr))
		}
		if err := failpoint.At(failpoint.TransitionUnprojected); err != nil {
			return wants, err
		}
		now, err := t.config.Events.AppendState(ctx, b.JobID, first, events)
		if err == nil {
			err = failpoint.At(failpoint.TransitionUnnoted)
		}
		if err != nil {
			return wants, err
		}
		if now <= wants {
			return wants, fmt.Errorf("dispatch: the event log still wants transition %d after %d to %d", now, first, first+uint64(len(events))-1)
		}
		wants = now
	}
	if !b.Terminal || t.config.Archiver != nil { // else they go once they are archived
		return wants, nil
	}
	_, err := t.config.Raft.Apply(ctx, state.TrimTransitions{JobID: b.JobID, Upto: b.Last})
	return wants, err
}

// projections is how many jobs' logs are written at a time: each write waits for
// the disk or for Redis, and the disk takes several with one flush.
const projections = 4

// follower reads which jobs have transitions that it has not seen.
type follower struct {
	begun          bool
	index, restore uint64
}

// read returns the backlogs that changed since the last call. anew says that
// they are all that there are: at first, and after a restore.
func (f *follower) read(s *state.Store) (view state.View, changed []state.Backlog, anew bool) {
	view = s.At()
	restore := view.Restores()
	if anew = !f.begun || f.restore != restore; anew {
		changed = view.TransitionBacklogs()
	} else {
		changed = view.BacklogsSince(f.index)
	}
	f.begun, f.index, f.restore = true, view.Index(), restore
	return view, changed, anew
}

func forgotten(job string, number uint64, at time.Time) api.Event {
	return api.Event{RunID: job, Timestamp: at, Level: api.LevelState, Agent: "controlplane",
		SourceSeq: number, Message: "a state change that is no longer known"}
}

func eventOf(t state.Transition) api.Event {
	return api.Event{
		RunID: t.JobID, Timestamp: t.At, Level: api.LevelState, Agent: "controlplane",
		Stage: t.Stage, Attempt: t.Attempt, Fence: t.Fence, Node: t.Node,
		SourceSeq: t.Number, From: t.From, To: t.To, ErrorCode: t.Code, Message: words(t),
	}
}

func words(t state.Transition) string {
	what := "job"
	if t.Stage != "" {
		what = "stage " + t.Stage
	}
	var m string
	switch {
	case t.To == string(api.StageSucceeded):
		m = what + " has succeeded"
	case t.To == string(api.StageFailed):
		m = what + " failed"
	case t.Stage != "" && t.To == string(api.StageRunning):
		m = fmt.Sprintf("%s is placed on %s (attempt %d)", what, t.Node, t.Attempt)
	default:
		m = what + " is " + t.To
	}
	if t.Reason != "" {
		m += ": " + t.Reason
	}
	return m
}
