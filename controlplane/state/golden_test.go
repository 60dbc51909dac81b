package state_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// go test ./controlplane/state -run Golden -update writes the golden files of
// this version anew. Files of a released version are never written again: the
// next version gets its own directory.
var update = flag.Bool("update", false, "write the golden files")

func goldenCommands() []state.Command {
	at := time.Date(2026, 11, 24, 12, 0, 0, 123456789, time.UTC)
	p := api.Pipeline{
		Nodes: []api.StageSpec{
			{Name: "dataset", Kind: "dataset", MaxAttempts: 3},
			{Name: "training", Kind: "training", MaxAttempts: 2, MaxDisconnect: "10m", Requires: api.Requirements{Engine: "native", Labels: map[string]string{"zone": "b"}}},
			{Name: "extra", Kind: "custom", Command: []string{"sh", "-c", "true"}, MaxAttempts: 1, Config: json.RawMessage(`{"k":"<&>"}`)},
		},
		Edges: []api.Edge{{From: "dataset", To: "training"}},
	}
	loss := 0.25
	return []state.Command{
		state.SetMinVersion{Version: 1},
		state.UpsertServer{Server: state.Server{ID: "s1", RaftAddress: "127.0.0.1:7000", HTTPAddress: "http://127.0.0.1:8000"}},
		state.CreateToken{Token: api.Token{ID: "t1", Name: "anna", Role: api.RoleUser, Hash: []byte{0, 1, 2}, CreatedAt: at}},
		state.CreateToken{Token: api.Token{ID: "t2", Role: api.RoleNode, Hash: []byte{9}, CreatedAt: at}},
		state.RevokeToken{ID: "t2"},
		state.CreateDataset{Dataset: api.Dataset{ID: "ds_1", Name: "tickets.csv", Format: "csv", Size: 12, SHA256: "ab", Key: "raw/ds_1.csv", CreatedAt: at}},
		state.CreateModel{Model: api.Model{Name: "mini", Files: []api.Artifact{{Name: "config.json", Bucket: "models", Key: "base/mini/config.json", Size: 2, SHA256: "cd"}}, SHA256: "ef", CreatedAt: at}},
		state.UpsertNode{At: at, Node: api.Node{ID: "n1", Name: "ws-anna", PublicKey: []byte{4}, Labels: map[string]string{"zone": "b", "rack": "1"}, Digest: "d", Capability: api.Capability{
			OS: "linux", CPU: api.CPU{Cores: 2}, MemoryBytes: 8 << 30, Engines: []api.Engine{{Name: "native", Available: true}}}}},
		state.UpsertNode{At: at, Node: api.Node{ID: "n2"}},
		state.SetDrain{NodeID: "n2", Drain: true},
		state.CreateJob{Spec: api.JobSpec{ID: "01JD0000000000000000000001", Name: "größer", Dataset: "ds_1", Config: json.RawMessage(`{"epochs":3}`)}, Pipeline: p, Model: "mini", CreatedBy: "anna", At: at},
		state.PlaceAttempt{JobID: "01JD0000000000000000000001", Stage: "dataset", NodeID: "n1", Devices: api.Devices{CPUCores: 1}, At: at}, // 12
		state.ReportAttempts{Reports: []state.Report{{Fence: 12, Report: api.AttemptReport{State: api.AttemptRunning}, At: at}}},
		state.ReportAttempts{Reports: []state.Report{{Fence: 12, At: at.Add(time.Second), Report: api.AttemptReport{State: api.AttemptSucceeded,
			Output: json.RawMessage(`{"rows":1000}`), Metrics: map[string]float64{"rows": 1000, "bytes": 12.5}, Artifacts: []api.Artifact{{Name: "raw.csv", Size: 12}}}}}},
		state.MarkPublished{Stages: []state.StageRef{{JobID: "01JD0000000000000000000001", Stage: "dataset", Fence: 12}}, At: at},
		state.PlaceAttempt{JobID: "01JD0000000000000000000001", Stage: "training", NodeID: "n1", Devices: api.Devices{Engine: "native"}, Slot: "training", At: at}, // 16
		state.RecordCheckpoint{Fence: 16, Saved: api.CheckpointReport{Name: "epoch_1", Files: []api.Artifact{{Name: "state.bin"}}}, At: at},
		state.MarkUnknown{Fences: []uint64{16}, At: at},
		state.Reconnected{Fences: []uint64{16}, At: at},
		state.MarkLost{Losses: []state.Loss{{Fence: 16, Reason: "its node is disconnected"}}, At: at},
		state.PlaceAttempt{JobID: "01JD0000000000000000000001", Stage: "extra", NodeID: "n1", Devices: api.Devices{CPUCores: 1}, At: at}, // 21
		state.ReportAttempts{Reports: []state.Report{{Fence: 21, At: at, LastEvents: []api.Event{{Seq: 4, Message: "boom", Loss: &loss}},
			Report: api.AttemptReport{State: api.AttemptFailed, Error: &api.StageError{Class: "crashed", Code: "EXIT", Message: "exit status 1", Retryable: true}}}}},
		state.CreateJob{Spec: api.JobSpec{ID: "01JD0000000000000000000002"}, Pipeline: p, CreatedBy: "bert", At: at.Add(time.Minute)},
		state.CancelJob{JobID: "01JD0000000000000000000002", By: "bert", At: at.Add(time.Hour)},
		state.ResumeJob{JobID: "01JD0000000000000000000002", By: "bert", At: at.Add(2 * time.Hour)},
		state.TrimTransitions{JobID: "01JD0000000000000000000002", Upto: 3},
		state.UpsertServer{Server: state.Server{ID: "s2"}},
		state.RemoveServer{ID: "s2"},
	}
}

func TestGoldenLogAndSnapshotOfVersion1(t *testing.T) {
	dir := filepath.Join("testdata", "v1")
	logFile, snapshotFile := filepath.Join(dir, "log.jsonl"), filepath.Join(dir, "snapshot.jsonl")
	if *update {
		writeGolden(t, logFile, snapshotFile)
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
	kinds := map[string]bool{}
	for i, entry := range bytes.Split(bytes.TrimSpace(log), []byte("\n")) {
		r, err := s.Apply(uint64(i+1), entry)
		if err != nil || r.Err != nil {
			t.Fatalf("entry %d: %v, %v", i+1, err, r.Err)
		}
		c, _ := state.Decode(entry)
		kinds[c.Kind()] = true
	}
	var got bytes.Buffer
	if err := s.WriteSnapshot(&got); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("the log of version 1 gives another state now:\n%s\nwant\n%s", got.Bytes(), want)
	}
	restored, _ := state.New()
	if err := restored.Restore(bytes.NewReader(want)); err != nil {
		t.Fatal(err)
	}
	if restored.Hash() != s.Hash() {
		t.Error("the snapshot of version 1 gives another state than its log")
	}
	for _, c := range goldenCommands() {
		if !kinds[c.Kind()] {
			t.Errorf("no %s in the golden log", c.Kind())
		}
	}
	if len(kinds) != 20 {
		t.Errorf("%d kinds in the golden log, want all 20", len(kinds))
	}
}

func writeGolden(t *testing.T, logFile, snapshotFile string) {
	t.Helper()
	s, _ := state.New()
	var log, snapshot bytes.Buffer
	for i, c := range goldenCommands() {
		entry, err := state.Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		if r, err := s.Apply(uint64(i+1), entry); err != nil || r.Err != nil {
			t.Fatalf("entry %d: %v, %v", i+1, err, r.Err)
		}
		log.Write(append(entry, '\n'))
	}
	if err := s.WriteSnapshot(&snapshot); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(logFile), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{logFile: log.Bytes(), snapshotFile: snapshot.Bytes()} {
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
