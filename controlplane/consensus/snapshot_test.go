package consensus_test

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/consensus"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

func saved(t *testing.T, n *consensus.Node) (*bytes.Buffer, uint64) {
	t.Helper()
	view, term := n.Snapshot()
	if term == 0 {
		t.Fatal("no term")
	}
	var b bytes.Buffer
	if err := view.WriteSnapshot(&b); err != nil {
		t.Fatal(err)
	}
	return &b, view.Index()
}

// The cluster that took the backup is gone; three other servers get its state,
// keep their own places and tokens, and go on with indices that the old cluster
// cannot have used.
func TestABackupIsRestoredIntoAnotherCluster(t *testing.T) {
	old := server(t, "gone", t.TempDir(), founding)
	leads(t, old)
	apply(t, old, state.UpsertServer{Server: state.Server{ID: "gone", HTTPAddress: "http://gone"}})
	apply(t, old, state.CreateToken{Token: api.Token{ID: "anna", Role: api.RoleUser, Hash: []byte("a")}})
	for i := range 30 {
		apply(t, old, dataset(i))
	}
	backup, at := saved(t, old)
	if err := old.Close(); err != nil {
		t.Fatal(err)
	}

	leader, others := three(t)
	apply(t, leader, state.UpsertServer{Server: state.Server{ID: "s1", HTTPAddress: "http://s1"}})
	apply(t, leader, state.CreateToken{Token: api.Token{ID: "founder", Role: api.RoleAdmin, Hash: []byte("f")}})
	apply(t, leader, dataset(1000))
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := others[0].Restore(ctx, bytes.NewReader(backup.Bytes())); !errors.Is(err, consensus.ErrNotLeader) {
		t.Fatalf("a follower restores: %v", err)
	}
	before := leader.Store().Hash()
	if err := leader.Restore(ctx, strings.NewReader(backup.String()[:backup.Len()-20])); err == nil || leader.Store().Hash() != before {
		t.Fatalf("a cut backup: %v", err)
	}
	if err := leader.Restore(ctx, bytes.NewReader(backup.Bytes())); err != nil {
		t.Fatal(err)
	}
	if err := leader.ConsistentRead(ctx); err != nil {
		t.Fatal(err)
	}
	next := apply(t, leader, dataset(30)).Index
	if next <= at+1<<31 {
		t.Errorf("the first index after the restore is %d: the old cluster, saved at %d, may have given it out", next, at)
	}
	for _, n := range append(others, leader) {
		if err := n.WaitIndex(ctx, next); err != nil {
			t.Fatal(err)
		}
		if n.Store().Hash() != leader.Store().Hash() {
			t.Errorf("%s has another state after the restore", n.ID())
		}
	}
	s := leader.Store()
	if got := len(s.Datasets()); got != 31 {
		t.Errorf("%d datasets, want the backup's 30 and one more", got)
	}
	for _, id := range []string{"anna", "founder"} {
		if _, err := s.Token(id); err != nil {
			t.Errorf("token %s: %v", id, err)
		}
	}
	for _, server := range s.Servers() {
		if server.ID == "gone" {
			t.Error("a server of the lost cluster is listed")
		}
	}
	if _, err := s.Server("s1"); err != nil {
		t.Errorf("a server of this cluster is not listed: %v", err)
	}
	// It holds over a restart, and the next snapshot of Raft's own.
	if err := others[0].Close(); err != nil {
		t.Fatal(err)
	}
	if apply(t, leader, dataset(31)); len(leader.Store().Datasets()) != 32 {
		t.Error("no writes after the restore with a server away")
	}
}

// A server that was killed between a snapshot and its name, or with a backup on
// its way, leaves what nobody would ever read.
func TestWhatAKilledServerLeftIsRemoved(t *testing.T) {
	dir := t.TempDir()
	left := []string{"restore-123", filepath.Join("snapshots", "6-100-1795968880239.tmp", "state.bin")}
	for _, name := range left {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), os.WriteFile(path, []byte("half"), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	leads(t, server(t, "s1", dir, founding))
	for _, name := range left {
		if _, err := os.Stat(filepath.Join(dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is still there (%v)", name, err)
		}
	}
}
