package state_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// commandsOf3 are those that protocol version 3 brought: batches, after single
// placements of before.
func commandsOf3() []state.Command {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	job := func(id string) state.Command {
		return state.CreateJob{Spec: api.JobSpec{ID: id}, Pipeline: chain("a", "b"), CreatedBy: "anna", At: at}
	}
	return []state.Command{
		state.SetMinVersion{Version: 2},
		state.UpsertNode{At: at, Node: api.Node{ID: "n1", Name: "ws", Capability: api.Capability{CPU: api.CPU{Cores: 3}}}},
		job("01JD0000000000000000000001"), job("01JD0000000000000000000002"), job("01JD0000000000000000000003"),
		placement("01JD0000000000000000000001", "a", "n1", at), // fence 6
		state.SetMinVersion{Version: 3},
		state.PlaceAttempts{Placements: []state.PlaceAttempt{ // fences 2048 and 2050
			placement("01JD0000000000000000000002", "a", "n1", at),
			placement("01JD0000000000000000000002", "a", "n1", at),
			placement("01JD0000000000000000000003", "a", "n1", at),
		}},
		state.ReportAttempts{Reports: []state.Report{
			{Fence: 6, Report: succeeded(`{}`), At: at}, {Fence: 2050, Report: api.AttemptReport{State: api.AttemptRunning}, At: at},
			{Fence: 2048, Report: failed("interrupted", true), At: at}}},
		placement("01JD0000000000000000000001", "b", "n1", at), // fence 2560
		state.CreateToken{Token: api.Token{ID: "t1", Name: "anna", Role: api.RoleUser, Hash: []byte{1}, CreatedAt: at}},
	}
}

// A later program reads what this one wrote. The files are written once, with
// -update, and never again.
func TestGoldenLogAndSnapshotOfBatches(t *testing.T) {
	logFile, snapshotFile := filepath.Join("testdata", "v3-batches", "log.jsonl"), filepath.Join("testdata", "v3-batches", "snapshot.jsonl")
	if *update {
		writeGoldenOf(t, commandsOf3(), logFile, snapshotFile)
	}
	log, err := os.ReadFile(logFile)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(snapshotFile)
	if err != nil {
		t.Fatal(err)
	}
	s, _ := state.New()
	for i, entry := range bytes.Split(bytes.TrimSpace(log), []byte("\n")) {
		if r, err := s.Apply(uint64(i+1), entry); err != nil || r.Err != nil {
			t.Fatalf("entry %d: %v, %v", i+1, err, r.Err)
		}
	}
	var got bytes.Buffer
	if err := s.WriteSnapshot(&got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the log gives another state now:\n%s\nwant\n%s", got.Bytes(), want)
	}
	restored, _ := state.New()
	if err := restored.Restore(bytes.NewReader(want)); err != nil || restored.Hash() != s.Hash() {
		t.Errorf("the snapshot gives another state than its log: %v", err)
	}
	for _, fence := range []uint64{6, 2048, 2050, 2560} {
		if _, err := s.Attempt(fence); err != nil {
			t.Errorf("fence %d: %v", fence, err)
		}
	}
}
