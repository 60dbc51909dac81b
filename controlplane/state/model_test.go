package state_test

import (
	"bytes"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// genCommand draws a command that often makes sense: names come from small sets
// and fences mostly from those that were given.
func genCommand(t *rapid.T, fences []uint64) state.Command {
	at := time.Unix(1_700_000_000, 0).UTC().Add(time.Duration(rapid.IntRange(0, 100_000).Draw(t, "at")) * time.Second)
	job := rapid.SampledFrom([]string{"j1", "j2", "j3"}).Draw(t, "job")
	stage := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "stage")
	node := rapid.SampledFrom([]string{"n1", "n2"}).Draw(t, "node")
	fence := uint64(rapid.IntRange(0, 60).Draw(t, "fence"))
	if len(fences) > 0 && rapid.IntRange(0, 9).Draw(t, "real") > 0 {
		fence = rapid.SampledFrom(fences).Draw(t, "known")
	}
	switch rapid.IntRange(0, 19).Draw(t, "kind") {
	case 0, 1:
		p := rapid.SampledFrom([]api.Pipeline{chain("a"), chain("a", "b", "c"), {
			Nodes: []api.StageSpec{{Name: "a", MaxAttempts: 1}, {Name: "b", MaxAttempts: 2}, {Name: "c", MaxAttempts: 3}},
			Edges: []api.Edge{{From: "a", To: "c"}, {From: "b", To: "c"}},
		}}).Draw(t, "pipeline")
		return state.CreateJob{Spec: api.JobSpec{ID: job, Labels: map[string]string{"x": "<&>", "y": "ä"}}, Pipeline: p, At: at}
	case 2:
		return state.CancelJob{JobID: job, At: at}
	case 3, 4:
		return state.ResumeJob{JobID: job, At: at}
	case 5, 6, 7, 8, 9:
		d := api.Devices{CPUCores: rapid.IntRange(0, 3).Draw(t, "cores"), MemoryBytes: int64(rapid.IntRange(0, 10).Draw(t, "memory"))}
		if rapid.Bool().Draw(t, "gpu") {
			d.GPUs = []int{rapid.IntRange(0, 1).Draw(t, "which")}
		}
		one := state.PlaceAttempt{JobID: job, Stage: stage, NodeID: node, Devices: d,
			Slot: rapid.SampledFrom([]string{"", "training"}).Draw(t, "slot"), At: at}
		if batches := rapid.Bool().Draw(t, "batch"); !batches {
			return one
		}
		other := one
		other.JobID, other.Stage = rapid.SampledFrom([]string{"j1", "j2", "j3"}).Draw(t, "other job"), rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "other stage")
		return state.PlaceAttempts{Placements: []state.PlaceAttempt{one, other, one}}
	case 10, 11, 12, 13:
		r := rapid.SampledFrom([]api.AttemptReport{
			{State: api.AttemptRunning}, succeeded(`{"a": 1, "b":"<x>"}`), failed("crashed", true), failed("interrupted", true),
			failed("bad_input", false), {State: api.AttemptFailed}, {State: api.AttemptCancelled},
			{State: api.AttemptSucceeded, Metrics: map[string]float64{"z": 0.1, "a": 1e300}, Artifacts: []api.Artifact{{Name: "x"}}},
		}).Draw(t, "report")
		return state.ReportAttempts{Reports: []state.Report{{Fence: fence, Report: r, At: at, RetryAt: at.Add(time.Second), LastEvents: []api.Event{{Seq: 1}}}}}
	case 14:
		return state.MarkUnknown{Fences: []uint64{fence}, At: at}
	case 15:
		return state.MarkLost{Losses: []state.Loss{{Fence: fence, Reason: "r"}}, At: at}
	case 16:
		return state.Reconnected{Fences: []uint64{fence}, At: at}
	case 17:
		return rapid.SampledFrom([]state.Command{
			state.RecordCheckpoint{Fence: fence, Saved: api.CheckpointReport{Name: "epoch_1"}, At: at},
			state.MarkPublished{Stages: []state.StageRef{{JobID: job, Stage: stage, Fence: fence}}},
			state.TrimTransitions{JobID: job, Upto: fence},
			state.SetDrain{NodeID: node, Drain: fence%2 == 0},
			state.CreateToken{Token: api.Token{ID: "t", Hash: []byte{byte(fence)}}},
			state.RevokeToken{ID: "t"},
			state.CreateDataset{Dataset: api.Dataset{ID: "ds", SHA256: "x", CreatedAt: at}},
			state.CreateModel{Model: api.Model{Name: "m", SHA256: job}, Replace: true, Keep: fence%2 == 0, Amend: fence%3 == 0},
			state.UpsertServer{Server: state.Server{ID: node}},
			state.RemoveServer{ID: node},
			state.SetMinVersion{Version: int(fence)},
			state.SetKeyring{Keyring: state.Keyring{CACert: []byte("c"), CAKey: []byte(job), GossipKey: []byte("g"), PeerSecret: "p"}},
			state.SetClusterSettings{Settings: api.ClusterSettings{RequireApproval: fence%2 == 0}},
			state.CreateJoinToken{Token: api.Token{ID: "t", Role: api.RoleNode, Hash: []byte{byte(fence)}, MaxUses: 1, ExpiresAt: at}},
			state.UseToken{ID: "t", By: node, At: at},
			state.EnrolNode{NodeID: node, Name: job, PublicKey: []byte(node), TokenID: "t", At: at, Credential: api.Token{ID: "c" + node, NodeID: node, Role: api.RoleNode, Hash: []byte{1, byte(fence)}}},
			state.ApproveNode{NodeID: node, Reject: fence%3 == 0},
			state.RemoveNode{NodeID: node},
			state.ChangeGossipKey{Step: []state.KeyStep{state.AddKey, state.UseKey, state.RemoveKey}[fence%3], Key: bytes.Repeat([]byte{byte(fence / 3)}, 32)},
		}).Draw(t, "other")
	default:
		return state.UpsertNode{At: at, Node: api.Node{ID: node, Labels: map[string]string{"l": job}, Capability: api.Capability{
			CPU: api.CPU{Cores: 3}, MemoryBytes: 12, GPUs: []api.GPU{{Index: 0}, {Index: 1}},
		}}}
	}
}

// invariants are what must hold after each entry.
func invariants(t *rapid.T, v state.View, accepted map[string]uint64) {
	jobs, err := v.Jobs(state.JobFilter{}, 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range jobs {
		stages, _ := v.Stages(j.ID)
		byName := map[string]api.Stage{}
		for _, s := range stages {
			byName[s.Name] = s
		}
		var moving, failed int
		for _, s := range stages {
			where := fmt.Sprintf("%s/%s", j.ID, s.Name)
			done := true
			for _, p := range s.After {
				done = done && byName[p].State.Done()
			}
			switch s.State {
			case api.StageReady, api.StageRunning, api.StageSucceeded, api.StageFailed:
				if !done {
					t.Fatalf("%s is %s before its predecessors are done", where, s.State)
				}
			case api.StagePending:
				if done {
					t.Fatalf("%s is pending though nothing is left to wait for", where)
				}
			}
			if s.State == api.StageReady || s.State == api.StageRunning {
				moving++
			}
			if s.State == api.StageFailed {
				failed++
			}
			live := slices.DeleteFunc(v.Attempts(j.ID), func(a api.Attempt) bool { return a.Stage != s.Name || a.State.Terminal() })
			if running := s.State == api.StageRunning; running != (len(live) == 1) || running && live[0].Fence != s.Fence {
				t.Fatalf("%s is %s with the live attempts %+v", where, s.State, live)
			}
			// I3: at most one attempt of a stage succeeds, and it is the last.
			if s.State == api.StageSucceeded {
				if first, ok := accepted[where]; ok && first != s.Fence {
					t.Fatalf("%s succeeded with %d and with %d", where, first, s.Fence)
				}
				accepted[where] = s.Fence
			} else if _, ok := accepted[where]; ok {
				t.Fatalf("%s succeeded and is %s now", where, s.State)
			}
			if s.Tries > s.MaxAttempts {
				t.Fatalf("%s was tried %d times of %d", where, s.Tries, s.MaxAttempts)
			}
		}
		if j.State.Terminal() != (moving == 0) {
			t.Fatalf("job %s is %s with %d stages that can run", j.ID, j.State, moving)
		}
		if dead := v.DeadLetters(j.ID); len(dead) != failed {
			t.Fatalf("job %s has %d failed stages and %d dead letters", j.ID, failed, len(dead))
		}
		transitionsAreLegal(t, v.Transitions(j.ID, 0))
	}
	for _, u := range v.Usages() {
		n, err := v.Node(u.NodeID)
		if err != nil {
			t.Fatal(err)
		}
		gpus := slices.Clone(u.GPUs)
		slices.Sort(gpus)
		if u.CPUCores > n.Capability.CPU.Cores || u.MemoryBytes > n.Capability.MemoryBytes ||
			len(slices.Compact(gpus)) != len(u.GPUs) || len(u.Slots) > 1 {
			t.Fatalf("over capacity: %+v on %+v", u, n.Capability)
		}
	}
}

func transitionsAreLegal(t *rapid.T, list []state.Transition) {
	last := map[string]string{}
	for i, tr := range list {
		if i > 0 && tr.Number != list[i-1].Number+1 {
			t.Fatalf("transition %d follows %d", tr.Number, list[i-1].Number)
		}
		if from, ok := last[tr.Stage]; ok && from != tr.From {
			t.Fatalf("stage %q goes on from %s, was %s", tr.Stage, tr.From, from)
		}
		last[tr.Stage] = tr.To
		if tr.Stage != "" && !api.StageState(tr.From).CanBecome(api.StageState(tr.To)) {
			t.Fatalf("illegal transition %+v", tr)
		}
	}
}

// Any log leaves a legal state, and the same one whether it was applied straight
// or through snapshots at random places.
func TestRandomLogsKeepTheInvariantsAndSurviveSnapshots(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		straight, err := state.New()
		if err != nil {
			t.Fatal(err)
		}
		restored, _ := state.New()
		accepted := map[string]uint64{}
		var fences []uint64
		placed := 0
		for index := uint64(1); index <= uint64(rapid.IntRange(1, 60).Draw(t, "length")); index++ {
			c := genCommand(t, fences)
			entry, err := state.Encode(c)
			if err != nil {
				t.Fatal(err)
			}
			r, err := straight.Apply(index, entry)
			if err != nil {
				t.Fatalf("%s: %v", c.Kind(), err)
			}
			again, err := restored.Apply(index, entry)
			if err != nil || (r.Err == nil) != (again.Err == nil) || r.Err != nil && r.Err.Error() != again.Err.Error() {
				t.Fatalf("%s: %v, then %v, %v", c.Kind(), r.Err, again.Err, err)
			}
			if r.Fence != 0 {
				fences = append(fences, r.Fence)
				placed++
			}
			invariants(t, straight.At(), accepted)
			if rapid.IntRange(0, 7).Draw(t, "snapshot") == 0 {
				var b bytes.Buffer
				if err := restored.WriteSnapshot(&b); err != nil {
					t.Fatal(err)
				}
				if rapid.Bool().Draw(t, "fresh") {
					restored, _ = state.New()
				}
				if err := restored.Restore(&b); err != nil {
					t.Fatal(err)
				}
			}
			if straight.Hash() != restored.Hash() {
				t.Fatalf("after %s at %d the states differ", c.Kind(), index)
			}
		}
	})
}

// FuzzApply: no bytes make the state machine panic, and what it refuses leaves
// no trace.
func FuzzApply(f *testing.F) {
	for _, c := range []state.Command{
		state.CreateJob{Spec: api.JobSpec{ID: "j9"}, Pipeline: chain("a", "b")},
		state.PlaceAttempt{JobID: "j", Stage: "a", NodeID: "n1"},
		state.PlaceAttempts{Placements: []state.PlaceAttempt{{JobID: "j", Stage: "a", NodeID: "n1"}, {JobID: "j", Stage: "b", NodeID: "n1"}}},
		state.ReportAttempts{Reports: []state.Report{{Fence: 3, Report: succeeded(`{}`)}}},
		state.UpsertNode{Node: api.Node{ID: "n2"}}, state.CancelJob{JobID: "j"}, state.SetMinVersion{Version: 2},
		state.MarkLost{Losses: []state.Loss{{Fence: 3}}}, state.TrimTransitions{JobID: "j", Upto: 9},
	} {
		entry, err := state.Encode(c)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(entry)
	}
	f.Add([]byte(`{"k":"create_job","v":1,"c":{"spec":{"id":"x"},"pipeline":{"nodes":[{"name":"\u0000"}]}}}`))
	f.Fuzz(func(t *testing.T, entry []byte) {
		m := newMesh(t)
		m.node("n1", 4)
		m.job("j", chain("a", "b"))
		m.place("j", "a", "n1")
		before := m.store.Hash()
		if _, err := m.store.Apply(m.index+1, entry); err != nil {
			if m.store.Hash() != before {
				t.Fatal("a refused entry changed the state")
			}
			return
		}
		var b bytes.Buffer
		if err := m.store.WriteSnapshot(&b); err != nil {
			t.Fatal(err)
		}
		other, _ := state.New()
		if err := other.Restore(&b); err != nil {
			t.Fatal(err)
		}
		if other.Hash() != m.store.Hash() {
			t.Fatal("the state does not survive a snapshot")
		}
	})
}

// FuzzRestore: no bytes make a restore panic, and a refused one leaves the
// state as it was.
func FuzzRestore(f *testing.F) {
	m := newMesh(f)
	m.node("n1", 4)
	m.job("j", chain("a", "b"))
	m.place("j", "a", "n1")
	var b bytes.Buffer
	if err := m.store.WriteSnapshot(&b); err != nil {
		f.Fatal(err)
	}
	f.Add(b.Bytes())
	f.Add([]byte(`{"format":"tunemesh-state","version":1,"index":1}` + "\n" + `{"end":0}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := newMesh(t)
		m.node("n1", 4)
		before := m.store.Hash()
		if err := m.store.Restore(bytes.NewReader(data)); err != nil && m.store.Hash() != before {
			t.Fatal("a refused snapshot changed the state")
		}
	})
}

func TestACutOrForeignSnapshotIsRefused(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 4)
	m.job("j", chain("a", "b"))
	var b bytes.Buffer
	if err := m.store.WriteSnapshot(&b); err != nil {
		t.Fatal(err)
	}
	lines := bytes.SplitAfter(b.Bytes(), []byte("\n"))
	for name, data := range map[string][]byte{
		"empty":       nil,
		"cut":         b.Bytes()[:b.Len()/2],
		"without end": bytes.Join(lines[:len(lines)-2], nil),
		"a row less":  bytes.Join(append(slices.Clone(lines[:3]), lines[4:]...), nil),
		"newer":       bytes.Replace(b.Bytes(), []byte(`"version":1`), []byte(`"version":2`), 1),
		"foreign":     []byte(`{"format":"other","version":1}`),
		"a table":     bytes.Replace(b.Bytes(), []byte(`"t":"jobs"`), []byte(`"t":"moons"`), 1),
	} {
		other := newMesh(t)
		other.node("n7", 1)
		before := other.store.Hash()
		if err := other.store.Restore(bytes.NewReader(data)); err == nil {
			t.Errorf("%s: restored", name)
		}
		if other.store.Hash() != before {
			t.Errorf("%s: the state changed", name)
		}
	}
}
