package state_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

func placement(job, stage, node string, at time.Time) state.PlaceAttempt {
	return state.PlaceAttempt{JobID: job, Stage: stage, NodeID: node, Devices: api.Devices{CPUCores: 1}, At: at}
}

// A batch's fences are unique, rise, and are above all of before there were
// batches; what is refused holds nothing else up.
func TestOneEntryPlacesManyAttempts(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 3)
	for _, id := range []string{"j1", "j2", "j3", "j4"} {
		m.job(id, chain("a"))
	}
	old := m.place("j1", "a", "n1")
	m.must(state.SetMinVersion{Version: 3})
	if !m.store.CanBatch() {
		t.Fatal("protocol version 3 knows no batches")
	}
	at := m.now.Add(time.Hour)
	r := m.must(state.PlaceAttempts{Placements: []state.PlaceAttempt{
		placement("j2", "a", "n1", at),
		placement("j2", "a", "n1", at), // it runs now
		placement("j9", "a", "n1", at), // there is none
		placement("j3", "a", "n1", at),
		placement("j4", "a", "n1", at), // no core is left
	}})
	for i, want := range []error{nil, state.ErrConflict, state.ErrNotFound, nil, state.ErrConflict} {
		if !errors.Is(r.Errs[i], want) || (want == nil) != (r.Placed[i].Fence != 0) {
			t.Errorf("placement %d: %+v, %v, want %v", i+1, r.Placed[i], r.Errs[i], want)
		}
	}
	entry := m.index
	last := old
	for _, i := range []int{0, 3} {
		fence := r.Placed[i].Fence
		if fence <= last || fence/state.MaxPlacements != entry {
			t.Errorf("fence %d of entry %d comes after %d", fence, entry, last)
		}
		last = fence
		m.accepted(fence, api.AttemptReport{State: api.AttemptRunning})
	}
	// A report about one is not one about another of the same entry.
	m.accepted(last, failed("interrupted", true))
	for job, want := range map[string]api.StageState{"j2": api.StageRunning, "j3": api.StageReady} {
		if s, err := m.store.Stage(job, "a"); err != nil || s.State != want {
			t.Errorf("the stage of %s is %s (%v), want %s", job, s.State, err, want)
		}
	}
	again := m.must(placement("j3", "a", "n1", at.Add(time.Hour)))
	if again.Fence <= last {
		t.Errorf("a single placement's fence %d comes after %d", again.Fence, last)
	}
	m.accepted(old, succeeded(`{}`))
}

// A node's poll wakes for its own set only, and for a restore.
func TestAWatchOfANodeWakesForItAlone(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 4)
	m.node("n2", 4)
	m.job("j1", chain("a"))
	m.job("j2", chain("a"))
	one, two := m.store.WatchNode("n1"), m.store.WatchNode("n2")
	m.place("j1", "a", "n1")
	select {
	case <-one:
	default:
		t.Error("a placement did not wake its node's watch")
	}
	select {
	case <-two:
		t.Error("a placement on another node woke the watch")
	default:
	}
	one = m.store.WatchNode("n1")
	var snapshot bytes.Buffer
	if err := m.store.WriteSnapshot(&snapshot); err != nil {
		t.Fatal(err)
	}
	if err := m.store.Restore(&snapshot); err != nil {
		t.Fatal(err)
	}
	for name, ch := range map[string]<-chan struct{}{"n1": one, "n2": two} {
		select {
		case <-ch:
		default:
			t.Errorf("a restore did not wake the watch of %s", name)
		}
	}
}
