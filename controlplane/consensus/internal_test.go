package consensus

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/controlplane/state"
)

// The log store does what Raft's own in-memory one does.
func TestTheLogStoreIsALogStore(t *testing.T) {
	round := 0
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		round++
		path := filepath.Join(dir, string(rune('a'+round%26))+time.Now().Format("150405.000000000"))
		s, err := openBolt(path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.Close() }()
		model := map[uint64]raft.Log{}
		next := uint64(1)
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			switch rapid.IntRange(0, 3).Draw(t, "step") {
			case 0, 1:
				var logs []*raft.Log
				for range rapid.IntRange(1, 5).Draw(t, "batch") {
					l := raft.Log{Index: next, Term: rapid.Uint64().Draw(t, "term"), Type: raft.LogType(rapid.IntRange(0, 5).Draw(t, "type")),
						Data: rapid.SliceOfN(rapid.Byte(), 0, 40).Draw(t, "data")}
					if rapid.Bool().Draw(t, "extended") {
						l.Extensions, l.AppendedAt = []byte("ext"), time.Unix(1_700_000_000, 5)
					}
					model[next] = l
					logs = append(logs, &l)
					next++
				}
				if err := s.StoreLogs(logs); err != nil {
					t.Fatal(err)
				}
			case 2:
				first := rapid.Uint64Range(0, next+2).Draw(t, "first")
				last := rapid.Uint64Range(first, next+2).Draw(t, "last")
				if err := s.DeleteRange(first, last); err != nil {
					t.Fatal(err)
				}
				for i := range model {
					if i >= first && i <= last {
						delete(model, i)
					}
				}
			case 3:
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if s, err = openBolt(path); err != nil {
					t.Fatal(err)
				}
			}
			var indexes []uint64
			for i := range model {
				indexes = append(indexes, i)
			}
			slices.Sort(indexes)
			var wantFirst, wantLast uint64
			if len(indexes) > 0 {
				wantFirst, wantLast = indexes[0], indexes[len(indexes)-1]
			}
			first, err1 := s.FirstIndex()
			last, err2 := s.LastIndex()
			if first != wantFirst || last != wantLast || err1 != nil || err2 != nil {
				t.Fatalf("%d to %d, want %d to %d (%v, %v)", first, last, wantFirst, wantLast, err1, err2)
			}
			for i := range next + 1 {
				var l raft.Log
				err := s.GetLog(i, &l)
				want, ok := model[i]
				if !ok {
					if !errors.Is(err, raft.ErrLogNotFound) {
						t.Fatalf("entry %d: %v", i, err)
					}
					continue
				}
				if err != nil || l.Index != want.Index || l.Term != want.Term || l.Type != want.Type || !bytes.Equal(l.Data, want.Data) ||
					!bytes.Equal(l.Extensions, want.Extensions) || !l.AppendedAt.Equal(want.AppendedAt) {
					t.Fatalf("entry %d: %+v, want %+v (%v)", i, l, want, err)
				}
			}
		}
	})
}

func TestTheStableStoreKeepsVotes(t *testing.T) {
	path := filepath.Join(t.TempDir(), "raft.db")
	s, err := openBolt(path)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := s.Get([]byte("none")); v != nil || err != nil {
		t.Fatal(v, err)
	}
	if v, err := s.GetUint64([]byte("none")); v != 0 || err != nil {
		t.Fatal(v, err)
	}
	if err := errors.Join(s.Set([]byte("who"), []byte("s2")), s.SetUint64([]byte("term"), 7), s.Close()); err != nil {
		t.Fatal(err)
	}
	if s, err = openBolt(path); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	who, _ := s.Get([]byte("who"))
	term, _ := s.GetUint64([]byte("term"))
	if string(who) != "s2" || term != 7 {
		t.Fatal(who, term)
	}
}

// FuzzDecodeEntry: damaged bytes are an error, never a panic, and what decodes
// encodes to the same bytes.
func FuzzDecodeEntry(f *testing.F) {
	f.Add(encodeEntry(&raft.Log{Term: 3, Data: []byte("x"), Extensions: []byte("y"), AppendedAt: time.Unix(1, 1)}))
	f.Add([]byte{1})
	f.Add(append(bytes.Repeat([]byte{1}, 18), 255, 255, 255, 255))
	f.Fuzz(func(t *testing.T, v []byte) {
		var l raft.Log
		if decodeEntry(1, v, &l) == nil && !bytes.Equal(encodeEntry(&l), v) {
			t.Fatal("another entry comes back")
		}
	})
}

func TestAHangingDiskEndsTheServer(t *testing.T) {
	t.Parallel()
	s, err := openBolt(filepath.Join(t.TempDir(), "raft.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	ended := make(chan error, 1)
	w := &watchdog{Log: s, limit: time.Second, fatal: func(err error) { ended <- err }}
	if err := errors.Join(w.StoreLog(&raft.Log{Index: 1}), w.Set([]byte("a"), nil), w.SetUint64([]byte("b"), 1)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(1200 * time.Millisecond)
	select {
	case err := <-ended:
		t.Fatalf("a write in time ended the server: %v", err)
	default:
	}
	release := make(chan struct{})
	w.wrote = func() { <-release }
	written := make(chan error, 1)
	go func() { written <- w.StoreLog(&raft.Log{Index: 2}) }()
	select {
	case err := <-ended:
		if !errors.Is(err, ErrStalled) || !strings.Contains(err.Error(), "Look at the disk") {
			t.Fatal(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the server goes on")
	}
	close(release)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
}

func TestAReaderOfLeadershipNeverMissesAStop(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q turns
		var heard []bool
		truth := false
		for range rapid.IntRange(0, 40).Draw(t, "n") {
			if rapid.Bool().Draw(t, "read") {
				if len(q.queue) > 0 {
					heard = append(heard, q.head())
					q.sent()
				}
				continue
			}
			truth = rapid.Bool().Draw(t, "leads")
			q.add(truth)
			if len(q.queue) > 2 {
				t.Fatalf("the queue grows: %v", q.queue)
			}
		}
		for len(q.queue) > 0 {
			heard = append(heard, q.head())
			q.sent()
		}
		for i, v := range heard {
			if v != (i%2 == 0) {
				t.Fatalf("heard %v: not in turns", heard)
			}
		}
		if len(heard) > 0 && heard[len(heard)-1] != truth || len(heard) == 0 && truth {
			t.Fatalf("heard %v, but leads is %v", heard, truth)
		}
	})
}

func TestAnEntryOfANewerProgramStopsTheServer(t *testing.T) {
	fatal := make(chan error, 10)
	n, err := Open(Config{ID: "s1", Dir: t.TempDir(), Bind: "127.0.0.1:0", Bootstrap: true,
		HeartbeatTimeout: 200 * time.Millisecond, Fatal: func(err error) { fatal <- err }})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = n.Close() }()
	<-n.LeadershipChanges()
	if err := n.raft.Apply([]byte(`{"k":"fly_to_mars","v":1,"c":{}}`), time.Second).Error(); err != nil {
		t.Fatal(err)
	}
	if err := <-fatal; !errors.Is(err, state.ErrUnknownCommand) {
		t.Fatal(err)
	}
	_, err = n.Apply(context.Background(), state.UpsertServer{Server: state.Server{ID: "s2"}})
	if !errors.Is(err, ErrUnknownOutcome) {
		t.Fatalf("a stopped server applied an entry: %v", err)
	}
	if _, err := n.store.Server("s2"); !errors.Is(err, state.ErrNotFound) {
		t.Fatal("a stopped server applied an entry")
	}
}

func TestRaftsWordsGoToOurLog(t *testing.T) {
	var b bytes.Buffer
	log := bridge(slog.New(slog.NewTextHandler(&b, nil)).With("room", "raft"))
	log.Named("x").Warn("trouble", "peer", "s2", "term", 3)
	log.Warn("heartbeat timeout reached, starting election")
	log.Info("a detail")
	log.Debug("a smaller one")
	if got := b.String(); !strings.Contains(got, `level=WARN msg=trouble room=raft peer=s2 term=3`) || strings.Contains(got, "detail") || strings.Contains(got, "smaller") || strings.Contains(got, "election") {
		t.Error(got)
	}
	quiet := bridge(slog.New(slog.DiscardHandler))
	if quiet.IsWarn() {
		t.Error("a discarded log is written to")
	}
}
