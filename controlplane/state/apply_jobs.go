package state

import (
	"bytes"
	"encoding/json"
	"slices"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// checkID refuses ids that could not be told apart in keys.
func checkID(field, id string) error {
	if id == "" {
		return invalid(field, "is empty")
	}
	if len(id) > 256 {
		return invalid(field, "is %d bytes long, at most 256 are allowed", len(id))
	}
	for _, c := range []byte(id) {
		if c < 0x20 || c == 0x7f {
			return invalid(field, "holds the control character %#x", c)
		}
	}
	return nil
}

func (m *mutation) job(id string) (*jobRow, error) {
	if r := first[jobRow](m.txn, tableJobs, "id", id); r != nil {
		return r, nil
	}
	return nil, notFound("there is no job %q", id)
}

func (m *mutation) stages(jobID string) []*stageRow {
	return all[stageRow](m.txn, tableStages, "id_prefix", jobID)
}

func (c CreateJob) apply(m *mutation) (Result, error) {
	if err := checkID("id", c.Spec.ID); err != nil {
		return Result{}, err
	}
	if have := first[jobRow](m.txn, tableJobs, "id", c.Spec.ID); have != nil {
		if have.CreatedBy == c.CreatedBy && sameJSON(have.JobSpec, c.Spec) {
			return Result{}, nil
		}
		return Result{}, conflict("job %q is already there with another spec or owner: choose another id", c.Spec.ID)
	}
	if c.Spec.Dataset != "" && first[api.Dataset](m.txn, tableDatasets, "id", c.Spec.Dataset) == nil {
		return Result{}, invalid("dataset", "there is no dataset %q: upload it first", c.Spec.Dataset)
	}
	if err := checkShape(c.Pipeline); err != nil {
		return Result{}, err
	}
	m.put(tableJobs, &jobRow{Job: api.Job{
		JobSpec: c.Spec, State: api.JobPending, Model: c.Model,
		CreatedBy: c.CreatedBy, CreatedAt: c.At, TraceParent: c.TraceParent, Index: m.index,
	}})
	m.record(Transition{JobID: c.Spec.ID, To: string(api.JobPending), Reason: "submitted", At: c.At})
	specs := map[string]api.StageSpec{}
	for _, n := range c.Pipeline.Nodes {
		specs[n.Name] = n
	}
	for pos, name := range c.Pipeline.TopologicalOrder() {
		s := &stageRow{Pos: pos, Stage: api.Stage{
			JobID: c.Spec.ID, StageSpec: specs[name], After: c.Pipeline.After(name),
			State: api.StagePending, Index: m.index,
		}}
		m.put(tableStages, s)
	}
	return Result{Created: true}, m.promote(c.Spec.ID, c.At)
}

// checkShape makes sure of what the state machine itself relies on. Everything
// else was checked before the command was proposed; to check it again here
// would make old entries depend on new rules.
func checkShape(p api.Pipeline) error {
	if len(p.Nodes) == 0 || len(p.Nodes) > api.MaxStages {
		return invalid("pipeline.nodes", "has %d stages, want 1 to %d", len(p.Nodes), api.MaxStages)
	}
	known := map[string]bool{}
	for _, n := range p.Nodes {
		if err := checkID("pipeline.nodes.name", n.Name); err != nil {
			return err
		}
		if known[n.Name] {
			return invalid("pipeline.nodes", "stage %q is there twice", n.Name)
		}
		known[n.Name] = true
	}
	for _, e := range p.Edges {
		if !known[e.From] || !known[e.To] {
			return invalid("pipeline.edges", "%s -> %s names an unknown stage", e.From, e.To)
		}
	}
	if p.TopologicalOrder() == nil {
		return invalid("pipeline.edges", "form a cycle")
	}
	return nil
}

func (c CancelJob) apply(m *mutation) (Result, error) {
	j, err := m.job(c.JobID)
	if err != nil {
		return Result{}, err
	}
	switch j.State {
	case api.JobCancelled:
		return Result{}, nil
	case api.JobSucceeded, api.JobFailed:
		return Result{}, conflict("job %q has %s: there is nothing to cancel", c.JobID, j.State)
	}
	reason := "cancelled"
	if c.By != "" {
		reason += " by " + c.By
	}
	if c.Reason != "" {
		reason += ": " + c.Reason
	}
	for _, s := range m.stages(c.JobID) {
		switch s.State {
		case api.StagePending, api.StageReady, api.StageRunning:
		default:
			continue
		}
		if s.State == api.StageRunning {
			if a := m.live(s.Fence); a != nil {
				m.end(a, api.AttemptCancelled, nil, c.At)
			}
		}
		s := *s
		s.FinishedAt = &c.At
		s.NotBefore = nil
		if err := m.move(&s, api.StageCancelled, reason, "", c.At); err != nil {
			return Result{}, err
		}
	}
	return Result{Created: true}, m.moveJob(c.JobID, api.JobCancelled, reason, c.At)
}

func (c ResumeJob) apply(m *mutation) (Result, error) {
	j, err := m.job(c.JobID)
	if err != nil {
		return Result{}, err
	}
	if j.State == api.JobSucceeded {
		return Result{}, conflict("job %q has succeeded: there is nothing to resume", c.JobID)
	}
	reason := "resumed"
	if c.By != "" {
		reason += " by " + c.By
	}
	resumed := false
	for _, s := range m.stages(c.JobID) {
		if s.State != api.StageFailed && s.State != api.StageCancelled {
			continue
		}
		resumed = true
		if d := first[api.DeadLetter](m.txn, tableDead, "id", c.JobID, s.Name); d != nil {
			m.remove(tableDead, d)
		}
		next := api.StageReady
		if !m.predecessorsDone(s) {
			next = api.StagePending
		}
		s := *s
		s.Tries, s.Interruptions, s.NotBefore, s.Error, s.FinishedAt = 0, 0, nil, nil, nil
		s.ReadyAt = nil
		if next == api.StageReady {
			s.ReadyAt = &c.At
		}
		if err := m.move(&s, next, reason, "", c.At); err != nil {
			return Result{}, err
		}
	}
	if !resumed {
		return Result{}, nil
	}
	if j.State != api.JobFailed && j.State != api.JobCancelled {
		return Result{Created: true}, nil
	}
	return Result{Created: true}, m.moveJob(c.JobID, api.JobRunning, reason, c.At)
}

func (c MarkPublished) apply(m *mutation) (Result, error) {
	for _, ref := range c.Stages {
		have := first[stageRow](m.txn, tableStages, "name", ref.JobID, ref.Stage)
		if have == nil || have.Fence != ref.Fence || have.State != api.StageSucceeded || have.Published {
			continue
		}
		s := *have
		s.Published, s.Index = true, m.index
		m.put(tableStages, &s)
	}
	return Result{}, nil
}

func (c TrimTransitions) apply(m *mutation) (Result, error) {
	for _, t := range all[Transition](m.txn, tableTransitions, "id_prefix", c.JobID) {
		if t.Number <= c.Upto {
			m.remove(tableTransitions, t)
		}
	}
	return Result{}, nil
}

func (m *mutation) predecessorsDone(s *stageRow) bool {
	for _, name := range s.After {
		p := first[stageRow](m.txn, tableStages, "name", s.JobID, name)
		if p == nil || !p.State.Done() {
			return false
		}
	}
	return true
}

// promote makes those pending stages ready whose predecessors are done.
func (m *mutation) promote(jobID string, at time.Time) error {
	for _, s := range m.stages(jobID) {
		if s.State != api.StagePending || !m.predecessorsDone(s) {
			continue
		}
		s := *s
		s.ReadyAt = &at
		if err := m.move(&s, api.StageReady, "", "", at); err != nil {
			return err
		}
	}
	return nil
}

// settle ends a job when all its stages are done, or when a stage has failed
// and nothing can run any more. Independent branches go on until then.
func (m *mutation) settle(jobID string, at time.Time) error {
	done, failed := true, (*stageRow)(nil)
	for _, s := range m.stages(jobID) {
		if s.State == api.StageReady || s.State == api.StageRunning {
			return nil
		}
		done = done && s.State.Done()
		if s.State == api.StageFailed && failed == nil {
			failed = s
		}
	}
	if done {
		return m.moveJob(jobID, api.JobSucceeded, "", at)
	}
	reason := "no stage can run"
	if failed != nil {
		reason = "stage " + failed.Name + " failed"
		if failed.Error != nil {
			reason += ": " + failed.Error.Message
		}
	}
	return m.moveJob(jobID, api.JobFailed, reason, at)
}

func sameJSON(a, b any) bool {
	x, errX := json.Marshal(a)
	y, errY := json.Marshal(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// clip bounds what people wrote before it is kept in rows of which there are
// many.
func clip(s string) string {
	const most = 512
	if len(s) <= most {
		return s
	}
	r := []rune(s[:most])
	for len(r) > 0 && r[len(r)-1] == '\uFFFD' {
		r = r[:len(r)-1]
	}
	return string(slices.Clip(r)) + "…"
}
