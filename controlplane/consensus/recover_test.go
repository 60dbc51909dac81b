package consensus_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/controlplane/consensus"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

func remains(t *testing.T, dir, id string) *consensus.Remains {
	t.Helper()
	r, err := consensus.OpenRemains(dir, id, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

// survivor is the directory of a server whose two peers are gone, stopped, with
// the hash of its state; some entries are in a snapshot and some in the log.
func survivor(t *testing.T) (dir, hash string, last uint64) {
	t.Helper()
	dir = t.TempDir()
	few := func(c *consensus.Config) {
		c.SnapshotThreshold, c.SnapshotInterval = 50, 20*time.Millisecond
		c.HeartbeatTimeout = 1500 * time.Millisecond // also on a busy machine one leads to the end
	}
	kept := server(t, "s1", dir, founding, few)
	leads(t, kept)
	var peers []*consensus.Node
	for _, id := range []string{"s2", "s3"} {
		n := server(t, id, t.TempDir(), few)
		if err := kept.AddVoter(context.Background(), state.Server{ID: id, RaftAddress: n.RaftAddress(), HTTPAddress: "http://" + id}); err != nil {
			t.Fatal(err)
		}
		peers = append(peers, n)
	}
	for i := range 120 {
		last = apply(t, kept, dataset(i)).Index
	}
	hash = kept.Store().Hash()
	for _, n := range append(peers, kept) {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
	return dir, hash, last
}

// Two of three servers are gone with their disks. The one that is left leads a
// cluster of its own, with all that it had, gives no index out twice, and takes
// new servers in.
func TestAServerGoesOnWithoutALostQuorum(t *testing.T) {
	t.Parallel()
	dir, hash, last := survivor(t)

	r := remains(t, dir, "s1")
	if r.Last < last || r.Term == 0 || len(r.Members) != 3 || r.State.Hash() != hash {
		t.Fatalf("found term %d, index %d, want %d at least; members %v", r.Term, r.Last, last, r.Members)
	}
	if _, err := consensus.HasState(dir); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("somebody else may open the directory meanwhile: %v", err)
	}
	if err := r.Recover(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}

	n := server(t, "s1", dir)
	leads(t, n)
	if got := len(n.Store().Datasets()); got != 120 {
		t.Errorf("%d datasets, want 120", got)
	}
	if m := n.Members(); len(m) != 1 || !m[0].Voter {
		t.Errorf("members are %v", m)
	}
	if next := apply(t, n, dataset(1000)).Index; next < last+1<<32 {
		t.Errorf("the next entry has index %d: the lost servers may have given it out after %d", next, last)
	}
	joined := server(t, "s4", t.TempDir())
	if err := n.AddVoter(context.Background(), state.Server{ID: "s4", RaftAddress: joined.RaftAddress(), HTTPAddress: "http://s4"}); err != nil {
		t.Fatal(err)
	}
	at := apply(t, n, dataset(1001)).Index
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := joined.WaitIndex(ctx, at); err != nil {
		t.Fatal(err)
	}
	if joined.Store().Hash() != n.Store().Hash() {
		t.Error("the new server has another state")
	}
}

// The machine goes down when the new snapshot is written and the old log not yet
// ended.
func TestARecoveryThatWasCutOffIsOne(t *testing.T) {
	t.Parallel()
	dir, _, last := survivor(t)
	log := filepath.Join(dir, "raft.db")
	old, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	r := remains(t, dir, "s1")
	if err := r.Recover(); err != nil {
		t.Fatal(err)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(log, old, 0o600); err != nil {
		t.Fatal(err)
	}
	n := server(t, "s1", dir)
	leads(t, n)
	if next := apply(t, n, dataset(1000)).Index; next < last+1<<32 || len(n.Store().Datasets()) != 121 || len(n.Members()) != 1 {
		t.Errorf("index %d, %d datasets, members %v", next, len(n.Store().Datasets()), n.Members())
	}
	// It can start again, with what it wrote since.
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	n = server(t, "s1", dir)
	leads(t, n)
	if len(n.Store().Datasets()) != 121 {
		t.Errorf("%d datasets after a restart", len(n.Store().Datasets()))
	}
}

func TestNothingIsRecoveredFromAStrangersDirectory(t *testing.T) {
	t.Parallel()
	if _, err := consensus.OpenRemains(t.TempDir(), "s1", slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "no log") {
		t.Errorf("an empty directory: %v", err)
	}
	dir, _, _ := survivor(t)
	r := remains(t, dir, "s9")
	if _, ok := r.Self(); ok {
		t.Error("s9 has a place")
	}
	if err := r.Recover(); err == nil || !strings.Contains(err.Error(), "removed") {
		t.Errorf("a server that is no member: %v", err)
	}
}
