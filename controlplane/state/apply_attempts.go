package state

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

const (
	// MaxInterruptions is how often a stage's attempts may end without using up
	// a try (lost node, told to stop) before the stage becomes a dead letter:
	// enough for a fleet of machines that are switched off every evening, and
	// an end to a stage that takes its node down each time.
	MaxInterruptions = 100
	// MaxCheckpoints is how many checkpoints of a stage are known at a time.
	MaxCheckpoints = 16

	classInterrupted = "interrupted"
)

// live returns the attempt with a fence if it is not terminal.
func (m *mutation) live(fence uint64) *attemptRow {
	a := first[attemptRow](m.txn, tableAttempts, "id", fence)
	if a == nil || a.State.Terminal() {
		return nil
	}
	return a
}

// end puts an attempt into a terminal state; its node's desired set changes.
func (m *mutation) end(have *attemptRow, s api.AttemptState, e *api.StageError, at time.Time) *attemptRow {
	a := *have
	a.State, a.Error, a.FinishedAt, a.Index = s, e, &at, m.index
	m.put(tableAttempts, &a)
	m.put(tableDesired, &desiredRow{NodeID: a.NodeID, Index: m.index})
	return &a
}

func (c PlaceAttempt) apply(m *mutation) (Result, error) {
	fence := m.index
	if m.minVersion() >= sinceBatches {
		fence = fenceOf(m.index, 0)
	}
	number, err := m.place(c, fence)
	if err != nil {
		return Result{}, err
	}
	return Result{Created: true, Fence: fence, Number: number}, nil
}

// place makes an attempt with a fence. All that the domain may refuse is refused
// before anything is changed, so that the rest of a batch can go on.
func (m *mutation) place(c PlaceAttempt, fence uint64) (number int, err error) {
	have := first[stageRow](m.txn, tableStages, "name", c.JobID, c.Stage)
	if have == nil {
		return 0, notFound("there is no stage %q in a job %q", c.Stage, c.JobID)
	}
	if have.State != api.StageReady {
		return 0, conflict("stage %s of job %s is %s, not ready", c.Stage, c.JobID, have.State)
	}
	if have.NotBefore != nil && c.At.Before(*have.NotBefore) {
		return 0, conflict("stage %s of job %s waits until %s", c.Stage, c.JobID, have.NotBefore.Format(time.RFC3339))
	}
	if err := m.fits(c, have); err != nil {
		return 0, err
	}
	s := *have
	s.Attempt++
	s.Fence, s.Node = fence, c.NodeID
	s.NotBefore, s.StartedAt, s.FinishedAt, s.Error = nil, nil, nil, nil
	s.Artifacts = nil // what an attempt that failed left behind
	m.put(tableAttempts, &attemptRow{Slot: c.Slot, Attempt: api.Attempt{
		Fence: fence, JobID: c.JobID, Stage: c.Stage, Number: s.Attempt, NodeID: c.NodeID,
		State: api.AttemptPlaced, Devices: c.Devices, TraceParent: c.TraceParent, PlacedAt: c.At, Index: m.index,
	}})
	m.put(tableDesired, &desiredRow{NodeID: c.NodeID, Index: m.index})
	if err := m.moveJob(c.JobID, api.JobRunning, "", c.At); err != nil {
		return 0, fmt.Errorf("job %s has a ready stage and cannot run: %s", c.JobID, err.Error())
	}
	return s.Attempt, m.move(&s, api.StageRunning, "", "", c.At)
}

// fits checks a placement against the state as it is now: the plan was made on
// an older one.
func (m *mutation) fits(c PlaceAttempt, s *stageRow) error {
	n := first[api.Node](m.txn, tableNodes, "id", c.NodeID)
	if n == nil {
		return notFound("there is no node %q", c.NodeID)
	}
	if n.Approval != "" {
		return conflict("node %q is %s: it gets no attempts before it is approved", n.ID, n.Approval)
	}
	if n.Drain {
		return conflict("node %s takes no new attempts", c.NodeID)
	}
	if e := s.Requires.Engine; e != "" && !n.Capability.HasEngine(e) {
		return conflict("node %s cannot run the engine %s", c.NodeID, e)
	}
	used := Usage{NodeID: c.NodeID}
	for _, a := range all[attemptRow](m.txn, tableAttempts, "live", c.NodeID) {
		used.add(a)
	}
	d := c.Devices
	switch {
	case d.CPUCores < 0 || d.MemoryBytes < 0:
		return invalid("devices", "reserve a negative amount")
	case d.CPUCores > n.Capability.CPU.Cores-used.CPUCores:
		return conflict("node %s has %d of %d cores free, not %d", c.NodeID, n.Capability.CPU.Cores-used.CPUCores, n.Capability.CPU.Cores, d.CPUCores)
	case d.MemoryBytes > n.Capability.MemoryBytes-used.MemoryBytes:
		return conflict("node %s has %d bytes of memory free, not %d", c.NodeID, n.Capability.MemoryBytes-used.MemoryBytes, d.MemoryBytes)
	case c.Slot != "" && slices.Contains(used.Slots, c.Slot):
		return conflict("the %s slot of node %s is taken", c.Slot, c.NodeID)
	}
	for i, g := range d.GPUs {
		there := slices.ContainsFunc(n.Capability.GPUs, func(x api.GPU) bool { return x.Index == g })
		if !there || slices.Contains(used.GPUs, g) || slices.Contains(d.GPUs[:i], g) {
			return conflict("GPU %d of node %s is not free", g, c.NodeID)
		}
	}
	return nil
}

func (c ReportAttempts) apply(m *mutation) (Result, error) {
	errs := make([]error, len(c.Reports))
	for i, r := range c.Reports {
		err := m.report(r)
		if err != nil && !isDomain(err) {
			return Result{}, err
		}
		errs[i] = err
	}
	return Result{Errs: errs}, nil
}

func (m *mutation) report(r Report) error {
	switch r.Report.State {
	case api.AttemptRunning, api.AttemptSucceeded, api.AttemptFailed, api.AttemptCancelled:
	default:
		return invalid("state", "is %q, want running, succeeded, failed or cancelled", r.Report.State)
	}
	a := first[attemptRow](m.txn, tableAttempts, "id", r.Fence)
	if a == nil {
		return staleFence("there is no attempt with the fence %d", r.Fence)
	}
	sum := reportSum(r.Report)
	if a.State.Terminal() {
		if a.ReportSum == sum || a.State == api.AttemptCancelled && r.Report.State == api.AttemptCancelled {
			return nil
		}
		return staleFence("attempt %d of stage %s of job %s has already %s: its report comes too late", a.Number, a.Stage, a.JobID, a.State)
	}
	s := first[stageRow](m.txn, tableStages, "name", a.JobID, a.Stage)
	if s == nil || s.Fence != a.Fence || s.State != api.StageRunning {
		return staleFence("stage %s of job %s has moved on", a.Stage, a.JobID)
	}
	if r.Report.State == api.AttemptRunning {
		return m.start(a, s, r.At)
	}
	e := r.Report.Error
	if r.Report.State == api.AttemptFailed && e == nil {
		e = &api.StageError{Class: "internal", Code: "NO_ERROR", Message: "the stage failed and gave no reason", Retryable: true}
	}
	ended := *a
	ended.ReportSum, ended.Lines = sum, r.Report.Lines
	if ended.StartedAt == nil {
		ended.StartedAt = &ended.PlacedAt
	}
	a = m.end(&ended, r.Report.State, e, r.At)
	stage := *s
	if stage.StartedAt == nil {
		stage.StartedAt = a.StartedAt
	}
	if r.Keep {
		stage.Artifacts = r.Report.Artifacts
	}
	switch r.Report.State {
	case api.AttemptSucceeded:
		return m.succeed(&stage, r)
	case api.AttemptCancelled:
		// Nobody cancelled the job, so the agent gave up by itself.
		return m.interrupt(&stage, a, "stopped by its node", e, r)
	}
	if e.Class == classInterrupted {
		return m.interrupt(&stage, a, e.Message, e, r)
	}
	return m.fail(&stage, a, e, r)
}

func reportSum(r api.AttemptReport) string {
	data, err := json.Marshal(r)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (m *mutation) start(have *attemptRow, s *stageRow, at time.Time) error {
	if have.State == api.AttemptRunning {
		return nil
	}
	a := *have
	a.State, a.UnknownAt, a.Index = api.AttemptRunning, nil, m.index
	if a.StartedAt == nil {
		a.StartedAt = &at
	}
	m.put(tableAttempts, &a)
	stage := *s
	stage.StartedAt, stage.Index = a.StartedAt, m.index
	m.put(tableStages, &stage)
	return nil
}

func (m *mutation) succeed(s *stageRow, r Report) error {
	s.Output, s.Metrics, s.Artifacts = r.Report.Output, r.Report.Metrics, r.Report.Artifacts
	s.FinishedAt, s.Error = &r.At, nil
	if err := m.move(s, api.StageSucceeded, "", "", r.At); err != nil {
		return err
	}
	if err := m.promote(s.JobID, r.At); err != nil {
		return err
	}
	return m.settle(s.JobID, r.At)
}

// fail uses up a try: the stage waits for the next attempt, or is a dead
// letter.
func (m *mutation) fail(s *stageRow, a *attemptRow, e *api.StageError, r Report) error {
	s.Tries++
	if e.Retryable && s.Tries < s.MaxAttempts {
		reason := fmt.Sprintf("attempt %d failed (%d of %d tries): %s", a.Number, s.Tries, s.MaxAttempts, e.Message)
		return m.again(s, reason, e, r.RetryAt, r.At)
	}
	return m.bury(s, a, e, r.LastEvents, r.At)
}

// interrupt uses up no try.
func (m *mutation) interrupt(s *stageRow, a *attemptRow, why string, e *api.StageError, r Report) error {
	s.Interruptions++
	if s.Interruptions < MaxInterruptions {
		return m.again(s, fmt.Sprintf("attempt %d was interrupted: %s", a.Number, why), e, r.RetryAt, r.At)
	}
	if e == nil {
		e = &api.StageError{Class: classInterrupted, Code: "INTERRUPTED", Message: why}
	}
	return m.bury(s, a, e, r.LastEvents, r.At)
}

// again makes a stage ready for its next attempt.
func (m *mutation) again(s *stageRow, reason string, e *api.StageError, notBefore, at time.Time) error {
	s.Error, s.ReadyAt, s.FinishedAt, s.NotBefore = e, &at, nil, nil
	if notBefore.After(at) {
		s.NotBefore = &notBefore
	}
	code := ""
	if e != nil {
		code = e.Code
	}
	return m.move(s, api.StageReady, reason, code, at)
}

// bury makes a stage a dead letter. Its descendants stay pending; a resume of
// the job goes on from here.
func (m *mutation) bury(s *stageRow, a *attemptRow, e *api.StageError, events []api.Event, at time.Time) error {
	s.Error, s.FinishedAt, s.NotBefore = e, &at, nil
	m.put(tableDead, &api.DeadLetter{JobID: s.JobID, Stage: s.Name, Fence: a.Fence,
		Tries: s.Tries, NodeID: a.NodeID, Error: *e, Artifacts: s.Artifacts, Events: events, At: at})
	if err := m.move(s, api.StageFailed, e.Message, e.Code, at); err != nil {
		return err
	}
	return m.settle(s.JobID, at)
}

func (c RecordCheckpoint) apply(m *mutation) (Result, error) {
	if c.Saved.Name == "" {
		return Result{}, invalid("name", "is empty")
	}
	a := m.live(c.Fence)
	if a == nil {
		return Result{}, staleFence("there is no live attempt with the fence %d", c.Fence)
	}
	have := first[stageRow](m.txn, tableStages, "name", a.JobID, a.Stage)
	if have == nil || have.Fence != c.Fence {
		return Result{}, staleFence("stage %s of job %s has moved on", a.Stage, a.JobID)
	}
	s := *have
	var kept []api.Checkpoint
	for _, k := range s.Checkpoints {
		if k.Name != c.Saved.Name {
			kept = append(kept, k)
		}
	}
	kept = append(kept, api.Checkpoint{Name: c.Saved.Name, Fence: c.Fence, Files: c.Saved.Files, At: c.At})
	s.Checkpoints = kept[max(0, len(kept)-MaxCheckpoints):]
	s.Index = m.index
	m.put(tableStages, &s)
	return Result{Created: true}, nil
}

func (c MarkUnknown) apply(m *mutation) (Result, error) {
	for _, fence := range c.Fences {
		have := m.live(fence)
		if have == nil || have.State == api.AttemptUnknown {
			continue
		}
		a := *have
		a.State, a.UnknownAt, a.Index = api.AttemptUnknown, &c.At, m.index
		m.put(tableAttempts, &a)
	}
	return Result{}, nil
}

func (c Reconnected) apply(m *mutation) (Result, error) {
	for _, fence := range c.Fences {
		have := m.live(fence)
		if have == nil || have.State != api.AttemptUnknown {
			continue
		}
		a := *have
		a.State, a.UnknownAt, a.Index = api.AttemptRunning, nil, m.index
		if a.StartedAt == nil {
			a.State = api.AttemptPlaced
		}
		m.put(tableAttempts, &a)
	}
	return Result{}, nil
}

func (c MarkLost) apply(m *mutation) (Result, error) {
	for _, l := range c.Losses {
		have := m.live(l.Fence)
		if have == nil {
			continue
		}
		a := m.end(have, api.AttemptLost, nil, c.At)
		s := first[stageRow](m.txn, tableStages, "name", a.JobID, a.Stage)
		if s == nil || s.Fence != a.Fence || s.State != api.StageRunning {
			continue
		}
		stage := *s
		if err := m.interrupt(&stage, a, l.Reason, nil, Report{At: c.At, RetryAt: l.RetryAt}); err != nil {
			return Result{}, err
		}
	}
	return Result{}, nil
}
