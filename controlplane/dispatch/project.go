package dispatch

import (
	"context"
	"fmt"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// projectLoop writes each job's transitions to its event log, each exactly
// once: they are numbered in the state, the log says which it wants next, and
// what it has is passed over. When a job has ended and all are archived (or stand
// in the log, where nothing is archived), the state forgets them.
func (t *term) projectLoop(ctx context.Context) {
	// next is the number of the transition that a job's log wants next.
	next := map[string]uint64{}
	for {
		w := t.store.Watch(state.TopicTransitions)
		start := time.Now()
		var again time.Time
		backlogs := t.store.TransitionBacklogs()
		known := make(map[string]uint64, len(backlogs))
		for _, b := range backlogs {
			known[b.JobID] = next[b.JobID]
		}
		next = known // those that were trimmed are forgotten
		for _, b := range backlogs {
			if ctx.Err() != nil {
				return
			}
			if err := t.project(ctx, b, next); err != nil && ctx.Err() == nil {
				t.config.Log.Warn("state changes are not in the event log yet", "job", b.JobID, "err", err)
				again = t.config.Clock().Add(time.Second)
			}
		}
		if !t.sleep(ctx, w, nil, again, max(4*time.Since(start), minPause)) {
			return
		}
	}
}

func (t *term) project(ctx context.Context, b state.Backlog, next map[string]uint64) error {
	for next[b.JobID] <= b.Last {
		transitions := t.store.Transitions(b.JobID, max(next[b.JobID], 1)-1)
		if len(transitions) == 0 {
			break
		}
		first := transitions[0].Number
		events := make([]api.Event, 0, len(transitions))
		if wants := next[b.JobID]; wants > 0 && wants < first {
			// The log lost more than the state remembers. Say so rather than stop.
			for n := wants; n < first; n++ {
				events = append(events, forgotten(b.JobID, n, transitions[0].At))
			}
			first = wants
		}
		for _, tr := range transitions {
			events = append(events, eventOf(tr))
		}
		wants, err := t.config.Events.AppendState(ctx, b.JobID, first, events)
		if err != nil {
			return err
		}
		if wants <= next[b.JobID] {
			return fmt.Errorf("dispatch: the event log still wants transition %d after %d to %d", wants, first, first+uint64(len(events))-1)
		}
		next[b.JobID] = wants
	}
	if !b.Terminal || t.config.Archiver != nil { // else they go once they are archived
		return nil
	}
	if _, err := t.config.Raft.Apply(ctx, state.TrimTransitions{JobID: b.JobID, Upto: b.Last}); err != nil {
		return err
	}
	delete(next, b.JobID)
	return nil
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
