package state

import (
	"fmt"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// MaxTransitions is how many of a job's transitions are kept. They are trimmed
// when the job ends, and are far fewer before: 64 stages with 20 attempts make
// 2,600. The bound holds when the event log cannot be written for long.
const MaxTransitions = 4096

// record numbers a transition and keeps it for the event log.
func (m *mutation) record(t Transition) {
	j := first[jobRow](m.txn, tableJobs, "id", t.JobID)
	if j == nil {
		m.fault(fmt.Errorf("transition of the unknown job %q", t.JobID))
		return
	}
	next := *j
	next.LastTransition++
	next.Index = m.index
	m.put(tableJobs, &next)
	t.Number, t.Index, t.Reason = next.LastTransition, m.index, clip(t.Reason)
	m.put(tableTransitions, &t)
	if t.Number > MaxTransitions {
		if old := first[Transition](m.txn, tableTransitions, "id", t.JobID, t.Number-MaxTransitions); old != nil {
			m.remove(tableTransitions, old)
		}
	}
}

// move stores a stage, which is the caller's copy, in a new state.
func (m *mutation) move(s *stageRow, next api.StageState, reason, code string, at time.Time) error {
	if !s.State.CanBecome(next) {
		return fmt.Errorf("stage %s/%s cannot become %s from %s", s.JobID, s.Name, next, s.State)
	}
	t := Transition{JobID: s.JobID, Stage: s.Name, From: string(s.State), To: string(next),
		Attempt: s.Attempt, Fence: s.Fence, Node: s.Node, Reason: reason, Code: code, At: at}
	s.State, s.Index = next, m.index
	m.put(tableStages, s)
	m.record(t)
	return nil
}

// moveJob puts a job into a new state; the same state is no change.
func (m *mutation) moveJob(id string, next api.JobState, reason string, at time.Time) error {
	have, err := m.job(id)
	if err != nil || have.State == next {
		return err
	}
	j := *have
	from := j.State
	j.State, j.Reason, j.Index = next, clip(reason), m.index
	switch next {
	case api.JobRunning:
		j.Reason, j.FinishedAt = "", nil
		if j.StartedAt == nil {
			j.StartedAt = &at
		}
	case api.JobSucceeded, api.JobFailed, api.JobCancelled:
		j.FinishedAt = &at
	}
	m.put(tableJobs, &j)
	m.record(Transition{JobID: id, From: string(from), To: string(next), Reason: reason, At: at})
	return nil
}
