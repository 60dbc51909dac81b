package state_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// mesh is a state under test with a log that counts.
type mesh struct {
	t     testing.TB
	store *state.Store
	index uint64
	now   time.Time
}

func newMesh(t testing.TB) *mesh {
	t.Helper()
	s, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	return &mesh{t: t, store: s, now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)}
}

// apply applies a command one second after the last.
func (m *mesh) apply(c state.Command) (state.Result, error) {
	m.t.Helper()
	entry, err := state.Encode(c)
	if err != nil {
		m.t.Fatal(err)
	}
	m.index++
	m.now = m.now.Add(time.Second)
	r, err := m.store.Apply(m.index, entry)
	if err != nil {
		m.t.Fatal(err)
	}
	return r, r.Err
}

func (m *mesh) must(c state.Command) state.Result {
	m.t.Helper()
	r, err := m.apply(c)
	if err != nil {
		m.t.Fatalf("%s: %v", c.Kind(), err)
	}
	return r
}

func (m *mesh) refused(want error, words string, c state.Command) {
	m.t.Helper()
	_, err := m.apply(c)
	if !errors.Is(err, want) || !strings.Contains(err.Error(), words) {
		m.t.Fatalf("%s: got %v, want %v with %q", c.Kind(), err, want, words)
	}
	if m.store.Index() != m.index {
		m.t.Fatal("a refused command did not move the index")
	}
}

// node joins a node with cores and one GPU of 8 GiB.
func (m *mesh) node(id string, cores int) {
	m.must(state.UpsertNode{At: m.now, Node: api.Node{ID: id, Name: id, Capability: api.Capability{
		CPU: api.CPU{Cores: cores}, MemoryBytes: 16 << 30, GPUs: []api.GPU{{Index: 0, MemoryBytes: 8 << 30}},
		Engines: []api.Engine{{Name: "native", Available: true}},
	}}})
}

func chain(names ...string) api.Pipeline {
	var p api.Pipeline
	for i, n := range names {
		p.Nodes = append(p.Nodes, api.StageSpec{Name: n, Kind: "custom", Command: []string{"true"}, MaxAttempts: 3})
		if i > 0 {
			p.Edges = append(p.Edges, api.Edge{From: names[i-1], To: n})
		}
	}
	return p
}

func (m *mesh) job(id string, p api.Pipeline) {
	m.t.Helper()
	m.must(state.CreateJob{Spec: api.JobSpec{ID: id}, Pipeline: p, CreatedBy: "anna", At: m.now})
}

func (m *mesh) place(job, stage, node string) uint64 {
	m.t.Helper()
	r := m.must(state.PlaceAttempt{JobID: job, Stage: stage, NodeID: node, Devices: api.Devices{CPUCores: 1}, At: m.now.Add(time.Hour)})
	if r.Fence != m.index {
		m.t.Fatalf("fence %d, want the entry's index %d", r.Fence, m.index)
	}
	return r.Fence
}

// report sends one report and returns its answer.
func (m *mesh) report(fence uint64, r api.AttemptReport) error {
	m.t.Helper()
	return m.must(state.ReportAttempts{Reports: []state.Report{{Fence: fence, Report: r, At: m.now, RetryAt: m.now.Add(time.Minute)}}}).Errs[0]
}

func (m *mesh) accepted(fence uint64, r api.AttemptReport) {
	m.t.Helper()
	if err := m.report(fence, r); err != nil {
		m.t.Fatal(err)
	}
}

func succeeded(output string) api.AttemptReport {
	return api.AttemptReport{State: api.AttemptSucceeded, Output: json.RawMessage(output)}
}

func failed(class string, retryable bool) api.AttemptReport {
	return api.AttemptReport{State: api.AttemptFailed, Error: &api.StageError{Class: class, Code: "X", Message: "it broke", Retryable: retryable}}
}

func (m *mesh) states(job string) string {
	m.t.Helper()
	j, err := m.store.Job(job)
	if err != nil {
		m.t.Fatal(err)
	}
	out := string(j.State) + ":"
	stages, _ := m.store.Stages(job)
	for _, s := range stages {
		out += " " + s.Name + "=" + string(s.State)
	}
	return out
}

func (m *mesh) want(job, states string) {
	m.t.Helper()
	if got := m.states(job); got != states {
		m.t.Fatalf("got  %s\nwant %s", got, states)
	}
}

func TestAJobRunsStageAfterStageToItsEnd(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 2)
	m.job("j", chain("a", "b"))
	m.want("j", "pending: a=ready b=pending")

	fence := m.place("j", "a", "n1")
	m.want("j", "running: a=running b=pending")
	m.accepted(fence, api.AttemptReport{State: api.AttemptRunning})
	m.accepted(fence, succeeded(`{"rows":3}`))
	m.want("j", "running: a=succeeded b=ready")

	m.accepted(m.place("j", "b", "n1"), succeeded(`{}`))
	m.want("j", "succeeded: a=succeeded b=succeeded")

	a, _ := m.store.Stage("j", "a")
	if string(a.Output) != `{"rows":3}` || a.Attempt != 1 || a.StartedAt == nil || a.FinishedAt == nil || a.Fence != fence {
		t.Fatalf("stage a: %+v", a)
	}
	if left := m.store.AttemptsOnNode("n1"); len(left) != 0 {
		t.Fatalf("still on the node: %v", left)
	}
}

func TestTheSameIDIsTheSameJobOnlyWithTheSameSpecAndOwner(t *testing.T) {
	m := newMesh(t)
	create := state.CreateJob{Spec: api.JobSpec{ID: "j", Name: "one"}, Pipeline: chain("a"), CreatedBy: "anna", At: m.now}
	if r := m.must(create); !r.Created {
		t.Fatal("not created")
	}
	create.At = m.now.Add(time.Hour)
	if r := m.must(create); r.Created {
		t.Fatal("created twice")
	}
	other := create
	other.Spec.Name = "two"
	m.refused(state.ErrConflict, "another spec", other)
	other = create
	other.CreatedBy = "bert"
	m.refused(state.ErrConflict, "another spec or owner", other)
}

func TestAJobIsRefusedWhereItWouldBreakTheState(t *testing.T) {
	m := newMesh(t)
	cyclic := chain("a", "b")
	cyclic.Edges = append(cyclic.Edges, api.Edge{From: "b", To: "a"})
	m.refused(state.ErrInvalid, "cycle", state.CreateJob{Spec: api.JobSpec{ID: "j"}, Pipeline: cyclic})
	m.refused(state.ErrInvalid, "twice", state.CreateJob{Spec: api.JobSpec{ID: "j"}, Pipeline: chain("a", "a")})
	m.refused(state.ErrInvalid, "dataset: there is no dataset", state.CreateJob{Spec: api.JobSpec{ID: "j", Dataset: "ds_0"}, Pipeline: chain("a")})
	m.refused(state.ErrInvalid, "id: is empty", state.CreateJob{Pipeline: chain("a")})
	m.refused(state.ErrInvalid, "control character", state.CreateJob{Spec: api.JobSpec{ID: "j\x00k"}, Pipeline: chain("a")})
	unknown := chain("a")
	unknown.Edges = []api.Edge{{From: "a", To: "zz"}}
	m.refused(state.ErrInvalid, "a -> zz names an unknown stage", state.CreateJob{Spec: api.JobSpec{ID: "j"}, Pipeline: unknown})
	if jobs, _ := m.store.Jobs(state.JobFilter{}, 0); len(jobs) != 0 {
		t.Fatalf("half a job was made: %v", jobs)
	}
}

func TestAPlacementIsCheckedAgainstTheStateAsItIs(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 2)
	m.node("n2", 2)
	p := chain("a")
	p.Nodes = append(p.Nodes, api.StageSpec{Name: "b", Kind: "custom", MaxAttempts: 1}, api.StageSpec{Name: "c", Kind: "training", MaxAttempts: 1, Requires: api.Requirements{Engine: "peft"}})
	m.job("j", p)
	place := state.PlaceAttempt{JobID: "j", Stage: "a", NodeID: "n1", Devices: api.Devices{CPUCores: 2, GPUs: []int{0}}, Slot: "training"}

	m.refused(state.ErrNotFound, `no stage "zz"`, state.PlaceAttempt{JobID: "j", Stage: "zz", NodeID: "n1"})
	m.refused(state.ErrNotFound, `no node "n9"`, state.PlaceAttempt{JobID: "j", Stage: "a", NodeID: "n9"})
	m.refused(state.ErrConflict, "engine peft", state.PlaceAttempt{JobID: "j", Stage: "c", NodeID: "n1"})
	m.refused(state.ErrConflict, "2 of 2 cores free, not 3", state.PlaceAttempt{JobID: "j", Stage: "a", NodeID: "n1", Devices: api.Devices{CPUCores: 3}})
	m.refused(state.ErrConflict, "GPU 1", state.PlaceAttempt{JobID: "j", Stage: "a", NodeID: "n1", Devices: api.Devices{GPUs: []int{1}}})
	m.refused(state.ErrConflict, "GPU 0", state.PlaceAttempt{JobID: "j", Stage: "a", NodeID: "n1", Devices: api.Devices{GPUs: []int{0, 0}}})
	m.refused(state.ErrInvalid, "negative", state.PlaceAttempt{JobID: "j", Stage: "a", NodeID: "n1", Devices: api.Devices{CPUCores: -1}})
	m.must(state.SetDrain{NodeID: "n2", Drain: true})
	m.refused(state.ErrConflict, "takes no new attempts", state.PlaceAttempt{JobID: "j", Stage: "a", NodeID: "n2"})
	m.must(place)
	m.refused(state.ErrConflict, "running, not ready", place)
	m.refused(state.ErrConflict, "0 of 2 cores", state.PlaceAttempt{JobID: "j", Stage: "b", NodeID: "n1", Devices: api.Devices{CPUCores: 1}})
	m.refused(state.ErrConflict, "training slot", state.PlaceAttempt{JobID: "j", Stage: "b", NodeID: "n1", Slot: "training"})
	m.refused(state.ErrConflict, "GPU 0", state.PlaceAttempt{JobID: "j", Stage: "b", NodeID: "n1", Devices: api.Devices{GPUs: []int{0}}})
	m.refused(state.ErrConflict, "memory", state.PlaceAttempt{JobID: "j", Stage: "b", NodeID: "n1", Devices: api.Devices{MemoryBytes: 17 << 30}})
	u := m.store.Usages()
	if len(u) != 1 || u[0].NodeID != "n1" || u[0].CPUCores != 2 || len(u[0].GPUs) != 1 || len(u[0].Slots) != 1 {
		t.Fatalf("usages %+v", u)
	}
}

func TestAFailureIsRetriedAfterItsBackoffUntilItsTriesAreUsedUp(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 2)
	m.job("j", chain("a", "b"))
	for try := 1; try <= 2; try++ {
		m.accepted(m.place("j", "a", "n1"), failed("transient", true))
		m.want("j", "running: a=ready b=pending")
		s, _ := m.store.Stage("j", "a")
		if s.Tries != try || s.NotBefore == nil || s.Error == nil || s.Error.Code != "X" {
			t.Fatalf("after failure %d: %+v", try, s)
		}
		early := s.NotBefore.Add(-time.Millisecond)
		m.refused(state.ErrConflict, "waits until", state.PlaceAttempt{JobID: "j", Stage: "a", NodeID: "n1", At: early})
	}
	m.accepted(m.place("j", "a", "n1"), failed("transient", true))
	m.want("j", "failed: a=failed b=pending")
}

func TestADeadLetterHasAllThatIsNeededAndAResumeGoesOnFromThere(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 2)
	m.job("j", chain("a", "b", "c"))
	m.accepted(m.place("j", "a", "n1"), succeeded(`{}`))
	for range 2 {
		m.accepted(m.place("j", "b", "n1"), failed("crashed", true))
	}
	last := m.place("j", "b", "n1")
	events := []api.Event{{Seq: 7, Message: "about to break"}}
	r := m.must(state.ReportAttempts{Reports: []state.Report{{Fence: last, Report: failed("crashed", true), At: m.now, LastEvents: events}}})
	if r.Errs[0] != nil {
		t.Fatal(r.Errs[0])
	}
	m.want("j", "failed: a=succeeded b=failed c=pending")
	dead := m.store.DeadLetters("j")
	if len(dead) != 1 || dead[0].Stage != "b" || dead[0].Tries != 3 || dead[0].Fence != last || dead[0].NodeID != "n1" ||
		dead[0].Error.Class != "crashed" || len(dead[0].Events) != 1 || len(m.store.DeadLetters("")) != 1 {
		t.Fatalf("dead letters %+v", dead)
	}
	j, _ := m.store.Job("j")
	if j.Reason != "stage b failed: it broke" || j.FinishedAt == nil {
		t.Fatalf("job %+v", j)
	}

	m.must(state.ResumeJob{JobID: "j", By: "anna", At: m.now})
	m.want("j", "running: a=succeeded b=ready c=pending")
	if len(m.store.DeadLetters("j")) != 0 {
		t.Fatal("the dead letter is still there")
	}
	b, _ := m.store.Stage("j", "b")
	if b.Tries != 0 || b.Error != nil {
		t.Fatalf("stage b %+v", b)
	}
	m.must(state.ResumeJob{JobID: "j", At: m.now}) // a repeat does nothing
	m.accepted(m.place("j", "b", "n1"), succeeded(`{}`))
	b, _ = m.store.Stage("j", "b")
	if b.Attempt != 4 {
		t.Fatalf("attempt number %d, want 4", b.Attempt)
	}
	m.accepted(m.place("j", "c", "n1"), succeeded(`{}`))
	m.want("j", "succeeded: a=succeeded b=succeeded c=succeeded")
	m.refused(state.ErrConflict, "nothing to resume", state.ResumeJob{JobID: "j", At: m.now})
}

// What a failed attempt left behind is kept where the entry says so, until the
// next attempt: an entry of an older program gives the state it always gave.
func TestWhatAFailedAttemptLeftIsKeptUntilTheNext(t *testing.T) {
	for _, keep := range []bool{true, false} {
		m := newMesh(t)
		m.node("n1", 2)
		m.job("j", chain("a", "b"))
		report := func(retryable bool, name string) {
			r := failed("bad_input", retryable)
			r.Artifacts = []api.Artifact{{Name: name}}
			m.must(state.ReportAttempts{Reports: []state.Report{{Fence: m.place("j", "a", "n1"), Report: r, At: m.now, Keep: keep}}})
		}
		left := func(want string) {
			t.Helper()
			got := ""
			s, _ := m.store.Stage("j", "a")
			for _, a := range s.Artifacts {
				got += a.Name
			}
			if !keep {
				want = ""
			}
			if got != want {
				t.Errorf("keep %v: the stage has %q, want %q", keep, got, want)
			}
		}
		report(true, "first")
		left("first")
		report(false, "second")
		left("second")
		if dead := m.store.DeadLetters("j"); len(dead) != 1 || (len(dead[0].Artifacts) == 1) != keep {
			t.Errorf("keep %v: dead letters %+v", keep, dead)
		}
		m.must(state.ResumeJob{JobID: "j", At: m.now})
		left("second")
		fence := m.place("j", "a", "n1")
		left("")
		m.accepted(fence, succeeded(`{}`))
		left("")
	}
}

func TestBadInputIsNotRetried(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 2)
	m.job("j", chain("a"))
	m.accepted(m.place("j", "a", "n1"), failed("bad_input", false))
	m.want("j", "failed: a=failed")
}

func TestInterruptionsUseUpNoTryButEndAtTheCap(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 2)
	m.job("j", chain("a"))
	for range state.MaxInterruptions - 1 {
		m.accepted(m.place("j", "a", "n1"), failed("interrupted", true))
	}
	s, _ := m.store.Stage("j", "a")
	if s.State != api.StageReady || s.Tries != 0 {
		t.Fatalf("stage %+v", s)
	}
	fence := m.place("j", "a", "n1")
	m.must(state.MarkLost{Losses: []state.Loss{{Fence: fence, Reason: "gone"}}, At: m.now})
	m.want("j", "failed: a=failed")
}

func TestIndependentBranchesGoOnAfterAFailure(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 4)
	p := chain("a", "b")
	p.Nodes = append(p.Nodes, api.StageSpec{Name: "x", MaxAttempts: 3}, api.StageSpec{Name: "y", MaxAttempts: 3})
	p.Edges = append(p.Edges, api.Edge{From: "x", To: "y"})
	m.job("j", p)
	m.accepted(m.place("j", "a", "n1"), failed("config", false))
	m.want("j", "running: a=failed b=pending x=ready y=pending")
	m.accepted(m.place("j", "x", "n1"), succeeded(`{}`))
	m.accepted(m.place("j", "y", "n1"), succeeded(`{}`))
	m.want("j", "failed: a=failed b=pending x=succeeded y=succeeded")
	m.must(state.ResumeJob{JobID: "j", At: m.now})
	m.want("j", "running: a=ready b=pending x=succeeded y=succeeded")
}

func TestCancelEndsEverythingAtOnceAndTheAgentSeesIt(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 4)
	m.job("j", chain("a", "b"))
	fence := m.place("j", "a", "n1")
	changed := m.store.WatchNode("n1")
	m.must(state.CancelJob{JobID: "j", By: "anna", Reason: "wrong data", At: m.now})
	m.want("j", "cancelled: a=cancelled b=cancelled")
	select {
	case <-changed:
	default:
		t.Fatal("the node's watch did not fire")
	}
	attempts, index := m.store.Desired("n1")
	if len(attempts) != 0 || index != m.index {
		t.Fatalf("desired %v at %d, want none at %d", attempts, index, m.index)
	}
	if err := m.report(fence, succeeded(`{}`)); !errors.Is(err, state.ErrStaleFence) {
		t.Fatalf("late success: %v", err)
	}
	m.accepted(fence, api.AttemptReport{State: api.AttemptCancelled}) // the agent's confirmation
	m.must(state.CancelJob{JobID: "j", At: m.now})                    // a repeat
	j, _ := m.store.Job("j")
	if j.Reason != "cancelled by anna: wrong data" {
		t.Fatalf("reason %q", j.Reason)
	}
	m.must(state.ResumeJob{JobID: "j", At: m.now})
	m.want("j", "running: a=ready b=pending")
}

func TestOnlyTheCurrentFenceIsHeardAndARepeatIsASuccess(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 4)
	m.job("j", chain("a"))
	first := m.place("j", "a", "n1")
	m.must(state.MarkUnknown{Fences: []uint64{first, 999}, At: m.now})
	m.must(state.MarkLost{Losses: []state.Loss{{Fence: first, Reason: "silent"}, {Fence: 999}}, At: m.now})
	second := m.place("j", "a", "n1")
	if err := m.report(first, succeeded(`{"who":1}`)); !errors.Is(err, state.ErrStaleFence) {
		t.Fatalf("the lost attempt was heard: %v", err)
	}
	if err := m.report(4711, succeeded(`{}`)); !errors.Is(err, state.ErrStaleFence) {
		t.Fatalf("an unknown fence was heard: %v", err)
	}
	m.accepted(second, succeeded(`{"who":2}`))
	m.accepted(second, succeeded(`{"who":2}`))
	if err := m.report(second, succeeded(`{"who":3}`)); !errors.Is(err, state.ErrStaleFence) {
		t.Fatalf("another result was heard: %v", err)
	}
	if err := m.report(second, api.AttemptReport{State: api.AttemptRunning}); !errors.Is(err, state.ErrStaleFence) {
		t.Fatalf("a start after the end was heard: %v", err)
	}
	if err := m.report(second, api.AttemptReport{State: "lost"}); !errors.Is(err, state.ErrInvalid) {
		t.Fatalf("a state that agents may not report: %v", err)
	}
	s, _ := m.store.Stage("j", "a")
	if string(s.Output) != `{"who":2}` || s.Fence != second {
		t.Fatalf("stage %+v", s)
	}
}

func TestASilentNodeThatComesBackInTimeGoesOn(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 4)
	p := chain("a")
	p.Nodes = append(p.Nodes, api.StageSpec{Name: "b", MaxAttempts: 1})
	m.job("j", p)
	started, placed := m.place("j", "a", "n1"), m.place("j", "b", "n1")
	m.accepted(started, api.AttemptReport{State: api.AttemptRunning})
	m.must(state.MarkUnknown{Fences: []uint64{started, placed}, At: m.now})
	for _, f := range []uint64{started, placed} {
		if a, _ := m.store.Attempt(f); a.State != api.AttemptUnknown || a.UnknownAt == nil {
			t.Fatalf("attempt %+v", a)
		}
	}
	m.must(state.Reconnected{Fences: []uint64{started, placed}, At: m.now})
	if a, _ := m.store.Attempt(started); a.State != api.AttemptRunning || a.UnknownAt != nil {
		t.Fatalf("attempt %+v", a)
	}
	if a, _ := m.store.Attempt(placed); a.State != api.AttemptPlaced {
		t.Fatalf("attempt %+v", a)
	}
	m.accepted(started, succeeded(`{}`))
}

func TestAnAttemptStoppedByItsNodeIsTriedAgain(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 4)
	m.job("j", chain("a"))
	m.accepted(m.place("j", "a", "n1"), api.AttemptReport{State: api.AttemptCancelled})
	m.want("j", "running: a=ready")
}

func TestCheckpointsAreKeptForTheNextAttempt(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 4)
	m.job("j", chain("a"))
	fence := m.place("j", "a", "n1")
	save := func(name string) state.RecordCheckpoint {
		return state.RecordCheckpoint{Fence: fence, Saved: api.CheckpointReport{Name: name, Files: []api.Artifact{{Name: "state.bin"}}}, At: m.now}
	}
	m.must(save("epoch_1"))
	m.must(save("epoch_2"))
	m.must(save("epoch_1"))
	m.accepted(fence, failed("crashed", true))
	m.refused(state.ErrStaleFence, "no live attempt", save("epoch_3"))
	s, _ := m.store.Stage("j", "a")
	if len(s.Checkpoints) != 2 || s.Checkpoints[1].Name != "epoch_1" {
		t.Fatalf("checkpoints %+v", s.Checkpoints)
	}
	fence = m.place("j", "a", "n1")
	for i := range state.MaxCheckpoints + 3 {
		m.must(save("e" + string(rune('a'+i))))
	}
	s, _ = m.store.Stage("j", "a")
	if len(s.Checkpoints) != state.MaxCheckpoints {
		t.Fatalf("%d checkpoints", len(s.Checkpoints))
	}
}

func TestTransitionsAreNumberedWithoutHolesAndTrimmed(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 4)
	m.job("j", chain("a"))
	m.accepted(m.place("j", "a", "n1"), succeeded(`{}`))
	var got []string
	for i, tr := range m.store.Transitions("j", 0) {
		if tr.Number != uint64(i+1) {
			t.Fatalf("transition %d has the number %d", i+1, tr.Number)
		}
		got = append(got, tr.Stage+":"+tr.From+">"+tr.To)
	}
	want := ":>pending a:pending>ready :pending>running a:ready>running a:running>succeeded :running>succeeded"
	if strings.Join(got, " ") != want {
		t.Fatalf("got  %s\nwant %s", strings.Join(got, " "), want)
	}
	if b := m.store.TransitionBacklogs(); len(b) != 1 || b[0] != (state.Backlog{JobID: "j", Last: 6, Terminal: true}) {
		t.Fatalf("backlogs %+v", b)
	}
	m.must(state.TrimTransitions{JobID: "j", Upto: 6})
	if len(m.store.Transitions("j", 0)) != 0 || len(m.store.TransitionBacklogs()) != 0 {
		t.Fatal("transitions are still there")
	}
}

func TestPublishedStagesLeaveTheList(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 4)
	m.job("j", chain("a"))
	fence := m.place("j", "a", "n1")
	m.accepted(fence, succeeded(`{}`))
	if len(m.store.UnpublishedStages()) != 1 {
		t.Fatal("not listed")
	}
	m.must(state.MarkPublished{Stages: []state.StageRef{{"j", "a", fence + 9}, {"j", "zz", 1}}})
	if len(m.store.UnpublishedStages()) != 1 {
		t.Fatal("another fence's result was marked")
	}
	m.must(state.MarkPublished{Stages: []state.StageRef{{"j", "a", fence}}})
	if len(m.store.UnpublishedStages()) != 0 {
		t.Fatal("still listed")
	}
}
