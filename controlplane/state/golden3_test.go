package state_test

import (
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

func TestGoldenLogAndSnapshotOfBatches(t *testing.T) {
	s, _ := golden(t, "v3-batches", commandsOf3())
	for _, fence := range []uint64{6, 2048, 2050, 2560} {
		if _, err := s.Attempt(fence); err != nil {
			t.Errorf("fence %d: %v", fence, err)
		}
	}
}
