package consensus

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// alone opens a cluster of one server on a folder, and waits until it leads or
// has met its end.
func alone(t *testing.T, dir string) (n *Node, fatal chan error) {
	t.Helper()
	fatal = make(chan error, 10)
	n, err := Open(Config{ID: "s1", Dir: dir, Bind: "127.0.0.1:0", Bootstrap: true, MinFreeBytes: 1,
		HeartbeatTimeout: 200 * time.Millisecond, Fatal: func(err error) { fatal <- err }})
	if err != nil {
		t.Fatal(err)
	}
	return n, fatal
}

func stopped(t *testing.T, fatal chan error, words ...string) {
	t.Helper()
	select {
	case err := <-fatal:
		if !errors.Is(err, state.ErrUnknownCommand) {
			t.Fatalf("stopped by %v", err)
		}
		for _, w := range words {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("the message has no %q: %v", w, err)
			}
		}
	case <-time.After(20 * time.Second):
		t.Fatal("a server that met a command newer than itself goes on")
	}
}

func token(id string) state.Command {
	return state.CreateToken{Token: api.Token{ID: id, Role: api.RoleUser, Hash: []byte(id)}}
}

// A server that is older than the mesh stops at the first entry that it does not
// know, a new kind or a new version of an old one, and says which and what to do.
// Started again it stops there again, with all that came before and nothing that
// came after: it never serves a state of its own.
func TestAnOlderServerStopsAtEveryStartAndSaysWhy(t *testing.T) {
	for name, entry := range map[string]string{
		"new kind":    `{"k":"fly_to_mars","v":1,"c":{}}`,
		"new version": `{"k":"set_drain","v":7,"c":{"node_id":"n1","drain":true}}`,
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			n, fatal := alone(t, dir)
			<-n.LeadershipChanges()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if _, err := n.Apply(ctx, token("before")); err != nil {
				t.Fatal(err)
			}
			if err := n.raft.Apply([]byte(entry), time.Second).Error(); err != nil {
				t.Fatal(err)
			}
			kind := strings.Split(entry, `"`)[3]
			stopped(t, fatal, kind, "run the newer program")
			after, err := state.Encode(token("after"))
			if err != nil {
				t.Fatal(err)
			}
			_ = n.raft.Apply(after, time.Second).Error() // reaches the log, not the state
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			n, fatal = alone(t, dir)
			defer func() { _ = n.Close() }()
			stopped(t, fatal, kind, "run the newer program")
			if _, err := n.store.Token("before"); err != nil {
				t.Errorf("what came before is not there: %v", err)
			}
			if _, err := n.store.Token("after"); !errors.Is(err, state.ErrNotFound) {
				t.Errorf("what came after is there: %v", err)
			}
		})
	}
}

// The snapshots of all versions so far restore into a cluster of this one, and
// are there after its restart.
func TestSnapshotsOfOlderVersionsRestore(t *testing.T) {
	files, err := filepath.Glob("../state/testdata/*/snapshot.jsonl")
	if err != nil || len(files) < 2 {
		t.Fatalf("golden snapshots: %v, %v", files, err)
	}
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			want, err := state.New()
			if err != nil {
				t.Fatal(err)
			}
			f, err := os.Open(file)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			if err := want.Restore(f); err != nil {
				t.Fatal(err)
			}
			if _, err := f.Seek(0, 0); err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			n, _ := alone(t, dir)
			<-n.LeadershipChanges()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			if err := n.Restore(ctx, f); err != nil {
				t.Fatal(err)
			}
			same := func() {
				t.Helper()
				got := n.store
				if len(got.Tokens()) != len(want.Tokens()) || len(got.Nodes()) != len(want.Nodes()) || len(got.Models()) != len(want.Models()) || got.MinVersion() != want.MinVersion() {
					t.Errorf("%d tokens, %d nodes, %d models, version %d; want %d, %d, %d, version %d", len(got.Tokens()), len(got.Nodes()), len(got.Models()), got.MinVersion(), len(want.Tokens()), len(want.Nodes()), len(want.Models()), want.MinVersion())
				}
				if len(want.Tokens())+len(want.GossipKeys().All())+len(want.Models()) == 0 {
					t.Error("the golden snapshot is empty")
				}
				if n := len(got.GossipKeys().All()); n != 0 {
					t.Errorf("%d of the backup's gossip keys came along: this cluster's stay", n)
				}
				for _, k := range want.Nodes() {
					have, err := got.Node(k.ID)
					if err != nil || have.Name != k.Name || have.Digest != k.Digest || have.Drain != k.Drain {
						t.Errorf("node %+v, want %+v, %v", have, k, err)
					}
				}
				for _, id := range []string{"01JD0000000000000000000001", "01JD0000000000000000000002"} {
					j, err := want.Job(id)
					if err != nil {
						continue // this version's snapshot has no jobs
					}
					have, err := got.Job(id)
					if err != nil || have.State != j.State || string(have.Config) != string(j.Config) {
						t.Errorf("job %+v, want %+v, %v", have, j, err)
					}
				}
			}
			same()
			if _, err := n.Apply(ctx, state.UpsertNode{Node: api.Node{ID: "n-new"}}); err != nil {
				t.Errorf("nothing can be written after the restore: %v", err)
			}
			if err := n.Close(); err != nil {
				t.Fatal(err)
			}
			n, _ = alone(t, dir)
			defer func() { _ = n.Close() }()
			<-n.LeadershipChanges()
			if err := n.ConsistentRead(ctx); err != nil {
				t.Fatal(err)
			}
			if _, err := n.store.Node("n-new"); err != nil {
				t.Errorf("after a restart: %v", err)
			}
		})
	}
}
