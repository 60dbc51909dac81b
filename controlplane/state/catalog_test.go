package state_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

func TestDatasetsAndModelsNeverChange(t *testing.T) {
	m := newMesh(t)
	d := api.Dataset{ID: "ds_1", Name: "a.csv", SHA256: "aa", Size: 3, CreatedAt: m.now}
	if r := m.must(state.CreateDataset{Dataset: d}); !r.Created {
		t.Fatal("not created")
	}
	if r := m.must(state.CreateDataset{Dataset: d}); r.Created {
		t.Fatal("created twice")
	}
	d.SHA256 = "bb"
	m.refused(state.ErrConflict, "other bytes", state.CreateDataset{Dataset: d})
	d.ID, d.CreatedAt = "ds_0", m.now.Add(time.Hour)
	m.must(state.CreateDataset{Dataset: d})
	if list := m.store.Datasets(); len(list) != 2 || list[0].ID != "ds_0" {
		t.Fatalf("not newest first: %+v", list)
	}
	if _, err := m.store.Dataset("ds_9"); !errors.Is(err, state.ErrNotFound) {
		t.Fatal(err)
	}

	model := api.Model{Name: "mini", SHA256: "aa"}
	m.must(state.CreateModel{Model: model})
	m.must(state.CreateModel{Model: model})
	model.SHA256 = "bb"
	m.refused(state.ErrConflict, "other files", state.CreateModel{Model: model})
	m.must(state.CreateModel{Model: model, Replace: true})
	if got, _ := m.store.Model("mini"); got.SHA256 != "bb" || len(m.store.Models()) != 1 {
		t.Fatalf("model %+v", got)
	}
}

func TestTokensAreFoundByTheirHash(t *testing.T) {
	m := newMesh(t)
	hash := bytes.Repeat([]byte{0, 7}, 16) // with zero bytes
	m.must(state.CreateToken{Token: api.Token{ID: "t1", Role: api.RoleAdmin, Hash: hash}})
	m.must(state.CreateToken{Token: api.Token{ID: "t1", Role: api.RoleAdmin, Hash: hash}})
	m.refused(state.ErrConflict, "already that of token", state.CreateToken{Token: api.Token{ID: "t2", Hash: hash}})
	m.refused(state.ErrConflict, "already there", state.CreateToken{Token: api.Token{ID: "t1", Hash: []byte{1}}})
	m.refused(state.ErrInvalid, "hash", state.CreateToken{Token: api.Token{ID: "t3"}})
	if tok, err := m.store.TokenByHash(hash); err != nil || tok.ID != "t1" {
		t.Fatalf("%+v, %v", tok, err)
	}
	for _, wrong := range [][]byte{nil, {}, hash[:31], append(bytes.Clone(hash), 0)} {
		if tok, err := m.store.TokenByHash(wrong); !errors.Is(err, state.ErrNotFound) {
			t.Fatalf("%x is the hash of %+v", wrong, tok)
		}
	}
	m.must(state.RevokeToken{ID: "t1"})
	m.refused(state.ErrNotFound, "t1", state.RevokeToken{ID: "t1"})
	if _, err := m.store.TokenByHash(hash); !errors.Is(err, state.ErrNotFound) {
		t.Fatal("a revoked token is still good")
	}
}

func TestANodeKeepsItsKeyItsDrainAndTheDayItJoined(t *testing.T) {
	m := newMesh(t)
	n := api.Node{ID: "n1", PublicKey: []byte{1}, Status: api.NodeAlive, Running: 3}
	joined := m.now
	m.must(state.UpsertNode{Node: n, At: joined})
	m.must(state.SetDrain{NodeID: "n1", Drain: true})
	m.refused(state.ErrNotFound, "n9", state.SetDrain{NodeID: "n9"})
	n.Labels = map[string]string{"zone": "a"}
	m.must(state.UpsertNode{Node: n, At: joined.Add(time.Hour)})
	got, _ := m.store.Node("n1")
	if !got.Drain || !got.JoinedAt.Equal(joined) || got.Labels["zone"] != "a" || got.Status != "" || got.Running != 0 {
		t.Fatalf("node %+v", got)
	}
	at := got.Index
	m.must(state.UpsertNode{Node: n, At: joined.Add(2 * time.Hour)})
	if got, _ = m.store.Node("n1"); got.Index != at {
		t.Fatal("an unchanged node was written again, which wakes everybody")
	}
	n.PublicKey = []byte{2}
	m.refused(state.ErrConflict, "another key", state.UpsertNode{Node: n, At: joined})
}

func TestServersAndVersions(t *testing.T) {
	m := newMesh(t)
	m.must(state.UpsertServer{Server: state.Server{ID: "s1", HTTPAddress: "http://a"}})
	m.must(state.UpsertServer{Server: state.Server{ID: "s1", HTTPAddress: "http://b"}})
	if s, err := m.store.Server("s1"); err != nil || s.HTTPAddress != "http://b" || len(m.store.Servers()) != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	m.must(state.RemoveServer{ID: "s1"})
	if _, err := m.store.Server("s1"); !errors.Is(err, state.ErrNotFound) {
		t.Fatal(err)
	}
	if m.store.MinVersion() != 1 {
		t.Fatal("a new mesh speaks version 1")
	}
	m.must(state.SetMinVersion{Version: 3})
	m.must(state.SetMinVersion{Version: 2})
	if m.store.MinVersion() != 3 {
		t.Fatal("the version sank")
	}
	m.refused(state.ErrInvalid, "version", state.SetMinVersion{})
}

func TestJobsAreListedNewestFirstInPages(t *testing.T) {
	m := newMesh(t)
	for _, id := range []string{"c", "a", "b", "e", "d"} {
		m.must(state.CreateJob{Spec: api.JobSpec{ID: id}, Pipeline: chain("x"), CreatedBy: "u" + id[:1], At: m.now})
	}
	ids := func(f state.JobFilter, limit int) string {
		jobs, err := m.store.Jobs(f, limit)
		if err != nil {
			t.Fatal(err)
		}
		var out string
		for _, j := range jobs {
			out += j.ID
		}
		return out
	}
	if got := ids(state.JobFilter{}, 0); got != "debac" {
		t.Fatalf("all: %s", got)
	}
	if a, b := ids(state.JobFilter{}, 2), ids(state.JobFilter{Before: "e"}, 2); a != "de" || b != "ba" {
		t.Fatalf("pages %s, %s", a, b)
	}
	m.must(state.CancelJob{JobID: "b", At: m.now})
	if got := ids(state.JobFilter{State: api.JobCancelled}, 0); got != "b" {
		t.Fatalf("cancelled: %s", got)
	}
	if got := ids(state.JobFilter{CreatedBy: "ua"}, 0); got != "a" {
		t.Fatalf("of ua: %s", got)
	}
	if _, err := m.store.Jobs(state.JobFilter{Before: "zz"}, 1); !errors.Is(err, state.ErrNotFound) {
		t.Fatal(err)
	}
}

func TestAnEntryIsRefusedBeforeItIsProposedIfRaftCouldNotCarryIt(t *testing.T) {
	big := state.CreateJob{Spec: api.JobSpec{ID: "j", Config: json.RawMessage(`"` + strings.Repeat("x", state.MaxEntry) + `"`)}}
	if _, err := state.Encode(big); !errors.Is(err, state.ErrInvalid) || !strings.Contains(err.Error(), "artifacts") {
		t.Fatalf("too large: %v", err)
	}
	nan := state.ReportAttempts{Reports: []state.Report{{Report: api.AttemptReport{Metrics: map[string]float64{"loss": math.NaN()}}}}}
	if _, err := state.Encode(nan); !errors.Is(err, state.ErrInvalid) {
		t.Fatalf("NaN: %v", err)
	}
}

func TestAnUnknownOrDamagedEntryIsAFaultAndChangesNothing(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 1)
	before := m.store.Hash()
	for _, entry := range []string{``, `{`, `{"k":"fly_to_mars","v":1,"c":{}}`, `{"k":"set_drain","v":2,"c":{}}`, `{"k":"set_drain","v":1,"c":7}`} {
		if _, err := m.store.Apply(m.index+1, []byte(entry)); err == nil {
			t.Errorf("%q was applied", entry)
		}
	}
	_, err := m.store.Apply(m.index+1, []byte(`{"k":"fly_to_mars","v":1,"c":{}}`))
	if !errors.Is(err, state.ErrUnknownCommand) || !strings.Contains(err.Error(), "newer program") {
		t.Error(err)
	}
	good, _ := state.Encode(state.SetDrain{NodeID: "n1", Drain: true})
	if _, err := m.store.Apply(m.index, good); err == nil {
		t.Error("an entry was applied twice")
	}
	if m.store.Hash() != before {
		t.Error("the state changed")
	}
}

func TestWatchesWakeForWhatTheyWatch(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 4)
	m.job("j", chain("a"))
	quiet, stop := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer stop()

	ready, nodes, node := m.store.Watch(state.TopicReady), m.store.Watch(state.TopicNodes), m.store.WatchNode("n1")
	job := m.store.WatchJob("j")
	fence := m.place("j", "a", "n1")
	if ready.Wait(context.Background()) != nil {
		t.Fatal("ready")
	}
	<-node
	<-job
	if err := nodes.Wait(quiet); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("a placement woke who watches nodes: %v", err)
	}

	node = m.store.WatchNode("n1")
	m.accepted(fence, api.AttemptReport{State: api.AttemptRunning})
	select {
	case <-node:
		t.Fatal("a start is no change of the desired set")
	default:
	}
	unpublished := m.store.Watch(state.TopicUnpublished)
	m.accepted(fence, succeeded(`{}`))
	<-node
	if unpublished.Wait(context.Background()) != nil {
		t.Fatal("unpublished")
	}
	if err := m.store.WaitIndex(context.Background(), m.index); err != nil {
		t.Fatal(err)
	}
	if err := m.store.WaitIndex(quiet, m.index+1); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

func TestAViewStaysWhileTheStateMovesOn(t *testing.T) {
	m := newMesh(t)
	m.node("n1", 4)
	m.job("j", chain("a"))
	v := m.store.At()
	before := v.Hash()
	m.place("j", "a", "n1")
	if s, _ := v.Stage("j", "a"); s.State != api.StageReady || v.Hash() != before || v.Index() == m.store.Index() {
		t.Fatal("the view moved")
	}
	if m.store.Hash() == before {
		t.Fatal("the hash does not see a placement")
	}
}
