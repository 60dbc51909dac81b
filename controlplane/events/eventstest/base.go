package eventstest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
)

// GapEvent stands for the lines from..to of a source.
func GapEvent(from, to uint64) api.Event {
	return api.Event{Level: api.LevelWarn, Timestamp: time.Unix(1, 0).UTC(), Message: "gap", Gap: &api.Gap{From: from, To: to, Why: "test"}}
}

func gaps(t *testing.T, open Open) {
	ctx := context.Background()
	l := open(t)
	batch := append(Batch("a1", 1, 2), GapEvent(3, 9))
	batch = append(batch, Batch("a1", 10, 2)...)
	for range 2 { // sent twice
		if next, err := l.Append(ctx, "J", "a1", 1, batch); err != nil || next != 12 {
			t.Fatalf("a batch with a gap: next %d, %v; want 12", next, err)
		}
	}
	// A sender that begins within the gap has a part of what is stored.
	if next, err := l.Append(ctx, "J", "a1", 5, append([]api.Event{GapEvent(5, 9)}, Batch("a1", 10, 3)...)); err != nil || next != 13 {
		t.Fatalf("from within the gap: next %d, %v; want 13", next, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t)
	defer l.Close()
	mustAppend(t, l, "J", "a1", 13, 1)
	var got []string
	for _, e := range all(t, l, "J", 2) {
		got = append(got, fmt.Sprintf("%s@%d", e.Message, e.SourceSeq))
	}
	if want := "[a1/1@1 a1/2@2 gap@9 a1/10@10 a1/11@11 a1/12@12 a1/13@13]"; fmt.Sprint(got) != want {
		t.Errorf("got %v, want %s", got, want)
	}
}

func lives(t *testing.T, open Open) {
	ctx := context.Background()
	l := open(t)
	life := func() string {
		t.Helper()
		at, err := l.Position(ctx, "J")
		if err != nil {
			t.Fatal(err)
		}
		if again, err := l.Life(ctx, "J"); err != nil || again != at.Life {
			t.Fatalf("Life is %q, %v; Position says %q", again, err, at.Life)
		}
		return at.Life
	}
	hole := func(source string, first uint64) {
		t.Helper()
		if _, err := l.Append(ctx, "J", source, first, Batch(source, first, 1)); !errors.Is(err, events.ErrHole) {
			t.Fatalf("no hole: %v", err)
		}
	}
	mustAppend(t, l, "J", "a1", 1, 3)
	first := life()
	if first == "" {
		t.Fatal("a stream has no life")
	}
	mustAppend(t, l, "J", "a1", 2, 5)
	if again := life(); again != first {
		t.Errorf("after an append the life is %q, was %q", again, first)
	}
	hole("a2", 8)
	second := life()
	if second == first {
		t.Error("after a hole the life is the same")
	}
	mustAppend(t, l, "J", "a2", 1, 8)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t)
	defer l.Close()
	if again := life(); again != second {
		t.Errorf("after opening the life is %q, was %q", again, second)
	}
	at, err := l.Position(ctx, "J")
	if err != nil || at.First != 1 || at.Last != 14 || !maps.Equal(at.Sources, map[string]uint64{"a1": 6, "a2": 8}) {
		t.Errorf("position is %+v, %v", at, err)
	}
}

// OpenOn is an Open on storage that knows what is archived.
type OpenOn func(t testing.TB, base func(job string) events.Base) events.Log

// RunArchived runs what a log must do once a part of a job is archived. fresh
// returns an OpenOn on new, empty storage.
func RunArchived(t *testing.T, fresh func(t testing.TB) OpenOn) {
	base := events.Base{Last: 10, Life: "archived", Sources: map[string]uint64{"a1": 6, "state": 4}}
	archived := func(string) events.Base { return base }
	ctx := context.Background()

	t.Run("an empty log goes on after the archive", func(t *testing.T) {
		open := fresh(t)
		l := open(t, archived)
		goesOn(t, l)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = open(t, archived)
		defer l.Close()
		if got, err := l.Read(ctx, "J", 10, 10); err != nil || len(got) != 3 || got[2].Seq != 13 || got[1].Message != "a1/8" {
			t.Errorf("after opening: %+v, %v", got, err)
		}
	})
	t.Run("another stream than the archived one is forgotten", func(t *testing.T) {
		open := fresh(t)
		l := open(t, func(string) events.Base { return events.Base{} })
		mustAppend(t, l, "J", "a1", 1, 30)
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		l = open(t, archived)
		defer l.Close()
		goesOn(t, l)
	})
	t.Run("the archived stream itself stays", func(t *testing.T) {
		own := events.Base{}
		l := fresh(t)(t, func(string) events.Base { return own })
		defer l.Close()
		mustAppend(t, l, "J", "a1", 1, 5)
		at, err := l.Position(ctx, "J")
		if err != nil {
			t.Fatal(err)
		}
		own = events.Base{Last: at.Last, Life: at.Life, Sources: at.Sources}
		mustAppend(t, l, "J", "a1", 6, 2)
		if again, err := l.Position(ctx, "J"); err != nil || again.First != 1 || again.Last != 7 || again.Life != at.Life {
			t.Errorf("position %+v, %v; was %+v", again, err, at)
		}
	})
}

func goesOn(t *testing.T, l events.Log) {
	t.Helper()
	ctx := context.Background()
	if next, err := l.Next(ctx, "J", "a1"); err != nil || next != 7 {
		t.Errorf("next of a1 is %d, %v; want 7", next, err)
	}
	if next, err := l.Append(ctx, "J", "a1", 9, Batch("a1", 9, 1)); !errors.Is(err, events.ErrHole) || next != 7 {
		t.Errorf("beyond the archive: next %d, %v", next, err)
	}
	if next, err := l.Append(ctx, "J", "a1", 3, Batch("a1", 3, 6)); err != nil || next != 9 {
		t.Errorf("over the archive's end: next %d, %v; want 9", next, err)
	}
	if next, err := l.Append(ctx, "J", "state", 5, Batch("state", 5, 1)); err != nil || next != 6 {
		t.Errorf("of another source: next %d, %v; want 6", next, err)
	}
	got, err := l.Read(ctx, "J", 10, 10)
	if err != nil || len(got) != 3 || got[0].Seq != 11 || got[0].Message != "a1/7" || got[2].Message != "state/5" {
		t.Errorf("after the archive come %+v, %v", got, err)
	}
	at, err := l.Position(ctx, "J")
	if err != nil || at.First != 11 || at.Last != 13 || at.Sources["a1"] != 8 || at.Sources["state"] != 5 {
		t.Errorf("position %+v, %v", at, err)
	}
}
