package state_test

import (
	"bytes"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

func part(first, last uint64) api.EventArchive {
	return api.EventArchive{Key: "k", First: first, Last: last, Life: "l", Sources: map[string]uint64{"state": last}}
}

func TestArchivedPartsFollowEachOther(t *testing.T) {
	m := newMesh(t)
	m.job("j", chain("a"))
	if r := m.must(state.ArchiveEvents{JobID: "j", Part: part(2, 5)}); r.Created {
		t.Error("a part that leaves a hole was recorded")
	}
	if r := m.must(state.ArchiveEvents{JobID: "j", Part: part(1, 5)}); !r.Created {
		t.Error("the first part was not recorded")
	}
	if r := m.must(state.ArchiveEvents{JobID: "j", Part: part(1, 7)}); r.Created {
		t.Error("a part was recorded twice")
	}
	m.must(state.ArchiveEvents{JobID: "j", Part: part(6, 9)})
	m.refused(state.ErrInvalid, "before the first event", state.ArchiveEvents{JobID: "j", Part: part(10, 9)})
	m.refused(state.ErrNotFound, "no job", state.ArchiveEvents{JobID: "other", Part: part(1, 9)})
	parts := m.store.EventArchives("j")
	if len(parts) != 2 || parts[0].Last != 5 || parts[0].Sources != nil || parts[1].Last != 9 || parts[1].Sources["state"] != 9 {
		t.Errorf("parts %+v", parts)
	}
	var b bytes.Buffer
	if err := m.store.WriteSnapshot(&b); err != nil {
		t.Fatal(err)
	}
	other, _ := state.New()
	if err := other.Restore(&b); err != nil || other.Hash() != m.store.Hash() {
		t.Errorf("the parts do not survive a snapshot: %v", err)
	}
}

func TestAnAttemptKeepsHowManyLinesItReported(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 4)
	m.job("j", chain("a"))
	fence := m.place("j", "a", "n1")
	r := succeeded(`{}`)
	r.Lines = 17
	m.must(state.ReportAttempts{Reports: []state.Report{{Fence: fence, Report: r, At: m.now}}})
	if a, err := m.store.Attempt(fence); err != nil || a.Lines != 17 {
		t.Errorf("attempt %+v, %v", a, err)
	}
}
