package state_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// Three servers that apply the same log have the same state, also one that was
// restored from another's snapshot on the way.
func TestThreeServersOnOneLogAreTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var servers [3]*state.Store
		for i := range servers {
			servers[i], _ = state.New()
		}
		var fences []uint64
		n := rapid.IntRange(1, 80).Draw(t, "entries")
		restoreAt := rapid.IntRange(1, n).Draw(t, "restore at")
		for i := 1; i <= n; i++ {
			entry, err := state.Encode(genCommand(t, fences))
			if err != nil {
				continue
			}
			for k, s := range servers {
				r, err := s.Apply(uint64(i), entry)
				if err != nil {
					t.Fatal(err)
				}
				if k == 0 && r.Fence != 0 {
					fences = append(fences, r.Fence)
				}
				for _, p := range r.Placed {
					if p.Fence != 0 {
						fences = append(fences, p.Fence)
					}
				}
			}
			if i == restoreAt {
				var snapshot bytes.Buffer
				if err := servers[0].WriteSnapshot(&snapshot); err != nil {
					t.Fatal(err)
				}
				servers[2], _ = state.New()
				if err := servers[2].Restore(&snapshot); err != nil {
					t.Fatal(err)
				}
			}
		}
		if a, b, c := servers[0].Hash(), servers[1].Hash(), servers[2].Hash(); a != b || a != c {
			t.Fatalf("three states: %s %s %s", a, b, c)
		}
	})
}

// commandsOf2 are those that protocol version 2 brought for clusters and joining.
func commandsOf2() []state.Command {
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	credential := api.Token{ID: "c1", Name: "node n1", Role: api.RoleNode, Hash: []byte{7}, NodeID: "n1", CreatedAt: at}
	return []state.Command{
		state.SetMinVersion{Version: 2},
		state.UpsertServer{Server: state.Server{ID: "s-1", Name: "cp1", RaftAddress: "10.0.0.5:7700", HTTPAddress: "https://10.0.0.5:7700", GossipAddress: "10.0.0.5:7702", Version: "1", Protocol: 2}},
		state.SetKeyring{Keyring: state.Keyring{CACert: []byte("cert"), CAKey: []byte("key"), GossipKey: []byte("gossip"), PeerSecret: "peer"}},
		state.SetClusterSettings{Settings: api.ClusterSettings{RequireApproval: true}},
		state.CreateJoinToken{Token: api.Token{ID: "t1", Role: api.RoleNode, Hash: []byte{1}, CreatedAt: at, ExpiresAt: at.Add(time.Hour), MaxUses: 2}},
		state.CreateJoinToken{Token: api.Token{ID: "t2", Role: api.RoleServer, Hash: []byte{2}, CreatedAt: at, MaxUses: 1}},
		state.UseToken{ID: "t2", By: "s-2", At: at},
		state.EnrolNode{NodeID: "n1", Name: "ws", PublicKey: []byte{9}, Credential: credential, TokenID: "t1", At: at},
		state.ApproveNode{NodeID: "n1"},
		state.EnrolNode{NodeID: "n2", Name: "ws2", PublicKey: []byte{8}, Credential: api.Token{ID: "c2", Role: api.RoleNode, Hash: []byte{6}, NodeID: "n2", CreatedAt: at}, TokenID: "t1", At: at},
		state.RemoveNode{NodeID: "n2"},
	}
}

func TestGoldenLogAndSnapshotOfTheClusterCommands(t *testing.T) {
	golden(t, "v2-cluster", commandsOf2())
}

// golden compares what a log of commands gives today with what it gave when its
// files were written, once, with -update: a later program reads what this one
// wrote. It returns the states that come of the log and of the snapshot.
func golden(t *testing.T, version string, commands []state.Command) (s, restored *state.Store) {
	t.Helper()
	dir := filepath.Join("testdata", version)
	logFile, snapshotFile := filepath.Join(dir, "log.jsonl"), filepath.Join(dir, "snapshot.jsonl")
	if *update {
		writeGoldenOf(t, commands, logFile, snapshotFile)
	}
	log, err := os.ReadFile(logFile)
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(snapshotFile)
	if err != nil {
		t.Fatal(err)
	}
	s, _ = state.New()
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
	restored, _ = state.New()
	if err := restored.Restore(bytes.NewReader(want)); err != nil || restored.Hash() != s.Hash() {
		t.Errorf("the snapshot gives another state than its log: %v", err)
	}
	return s, restored
}

func writeGoldenOf(t *testing.T, commands []state.Command, logFile, snapshotFile string) {
	t.Helper()
	s, _ := state.New()
	var log, snapshot bytes.Buffer
	for i, c := range commands {
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

func TestTokensEndAndAreUsedUp(t *testing.T) {
	s, _ := state.New()
	at := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	index := uint64(0)
	apply := func(c state.Command) error {
		t.Helper()
		index++
		entry, err := state.Encode(c)
		if err != nil {
			t.Fatal(err)
		}
		r, err := s.Apply(index, entry)
		if err != nil {
			t.Fatal(err)
		}
		return r.Err
	}
	_ = apply(state.CreateJoinToken{Token: api.Token{ID: "t", Role: api.RoleServer, Hash: []byte{1}, MaxUses: 1, ExpiresAt: at.Add(time.Hour)}})
	for _, c := range []struct {
		by   string
		at   time.Time
		want string
	}{
		{"s-1", at, ""}, {"s-1", at, ""}, // a repeat is one use
		{"s-2", at, "as often as it may"}, {"s-1", at.Add(time.Hour), "expired"},
	} {
		err := apply(state.UseToken{ID: "t", By: c.by, At: c.at})
		if (err == nil) != (c.want == "") || err != nil && (!errors.Is(err, state.ErrInvalid) || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s at %s: %v, want %q", c.by, c.at, err, c.want)
		}
	}
	if err := apply(state.SetKeyring{Keyring: state.Keyring{CAKey: []byte("a"), GossipKey: []byte("b"), PeerSecret: "c"}}); err != nil {
		t.Error(err)
	}
	if err := apply(state.SetKeyring{Keyring: state.Keyring{CAKey: []byte("x"), GossipKey: []byte("b"), PeerSecret: "c"}}); !errors.Is(err, state.ErrConflict) {
		t.Errorf("another keyring: %v", err)
	}
}
