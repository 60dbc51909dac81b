// Package eventstest holds what every event log must do, as tests that an
// implementation runs on itself.
package eventstest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
)

// Open opens a log on some storage; opening the same storage again after Close
// must find what was acknowledged.
type Open func(t testing.TB) events.Log

// Run runs the suite. fresh returns an Open on new, empty storage.
func Run(t *testing.T, fresh func(t testing.TB) Open) {
	t.Run("a batch sent twice is stored once", func(t *testing.T) { repeats(t, fresh(t)) })
	t.Run("a hole is refused with the expected number", func(t *testing.T) { holes(t, fresh(t)) })
	t.Run("sources are counted apart, the stream without holes", func(t *testing.T) { sources(t, fresh(t)) })
	t.Run("what was acknowledged is there after opening again", func(t *testing.T) { reopened(t, fresh(t)) })
	t.Run("concurrent writers of one job", func(t *testing.T) { concurrent(t, fresh(t)) })
	t.Run("tails see every event once and in order", func(t *testing.T) { tails(t, fresh(t)) })
	t.Run("a reader that does nothing does not slow the writer", func(t *testing.T) { idleReader(t, fresh(t)) })
	t.Run("the last events of a source", func(t *testing.T) { last(t, fresh(t)) })
	t.Run("an oversize event is cut, not refused", func(t *testing.T) { oversize(t, fresh(t)) })
	t.Run("a gap counts as the lines that it stands for", func(t *testing.T) { gaps(t, fresh(t)) })
	t.Run("a hole in a stream that has events gives it another life", func(t *testing.T) { lives(t, fresh(t)) })
	t.Run("closing wakes waiters", func(t *testing.T) { closing(t, fresh(t)) })
	t.Run("unknown jobs and bad names", func(t *testing.T) { names(t, fresh(t)) })
	t.Run("any mix of repeats, holes and restarts", func(t *testing.T) { model(t, fresh) })
}

// Batch makes n events whose messages tell their number in their source.
func Batch(source string, first uint64, n int) []api.Event {
	out := make([]api.Event, n)
	for i := range out {
		out[i] = api.Event{Level: api.LevelInfo, Message: fmt.Sprintf("%s/%d", source, first+uint64(i)), Timestamp: time.Unix(1, 0).UTC()}
	}
	return out
}

func mustAppend(t testing.TB, l events.Log, job, source string, first uint64, n int) {
	t.Helper()
	next, err := l.Append(context.Background(), job, source, first, Batch(source, first, n))
	if err != nil || next != first+uint64(n) {
		t.Fatalf("append %d from %d: next %d, %v", n, first, next, err)
	}
}

// all reads the whole stream in small steps and checks its numbers.
func all(t testing.TB, l events.Log, job string, step int) []api.Event {
	t.Helper()
	var out []api.Event
	for {
		got, err := l.Read(context.Background(), job, uint64(len(out)), step)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 {
			return out
		}
		for _, e := range got {
			out = append(out, e)
			if e.Seq != uint64(len(out)) {
				t.Fatalf("event %d has the number %d", len(out), e.Seq)
			}
		}
	}
}

func repeats(t *testing.T, open Open) {
	l := open(t)
	defer l.Close()
	mustAppend(t, l, "J", "a1", 1, 5)
	mustAppend(t, l, "J", "a1", 1, 5)
	if next, err := l.Append(context.Background(), "J", "a1", 3, Batch("a1", 3, 5)); err != nil || next != 8 {
		t.Errorf("an overlapping batch: next %d, %v; want 8", next, err)
	}
	if next, err := l.Append(context.Background(), "J", "a1", 2, nil); err != nil || next != 8 {
		t.Errorf("an empty batch: next %d, %v; want 8", next, err)
	}
	got := all(t, l, "J", 100)
	if len(got) != 7 {
		t.Fatalf("stored %d events, want 7", len(got))
	}
	for i, e := range got {
		if want := fmt.Sprintf("a1/%d", i+1); e.Message != want || e.RunID != "J" || e.SourceSeq != uint64(i+1) {
			t.Errorf("event %d is %+v", i+1, e)
		}
	}
}

func holes(t *testing.T, open Open) {
	l := open(t)
	defer l.Close()
	next, err := l.Append(context.Background(), "J", "a1", 2, Batch("a1", 2, 1))
	if !errors.Is(err, events.ErrHole) || next != 1 {
		t.Errorf("a stream that starts at 2: next %d, %v", next, err)
	}
	mustAppend(t, l, "J", "a1", 1, 3)
	next, err = l.Append(context.Background(), "J", "a1", 5, Batch("a1", 5, 1))
	if !errors.Is(err, events.ErrHole) || next != 4 {
		t.Errorf("a hole: next %d, %v; want 4", next, err)
	}
	if got := all(t, l, "J", 100); len(got) != 3 {
		t.Errorf("stored %d events, want 3", len(got))
	}
}

func sources(t *testing.T, open Open) {
	l := open(t)
	defer l.Close()
	mustAppend(t, l, "J", "a1", 1, 2)
	mustAppend(t, l, "J", events.SourceState, 1, 1)
	mustAppend(t, l, "J", "a2", 1, 1)
	mustAppend(t, l, "K", "a1", 1, 1)
	var got []string
	for _, e := range all(t, l, "J", 1) {
		got = append(got, e.Message)
	}
	if want := "a1/1 a1/2 state/1 a2/1"; strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	for source, want := range map[string]uint64{"a1": 3, "a2": 2, "state": 2, "a3": 1} {
		if next, err := l.Next(context.Background(), "J", source); err != nil || next != want {
			t.Errorf("next of %s is %d, %v; want %d", source, next, err, want)
		}
	}
}

func reopened(t *testing.T, open Open) {
	l := open(t)
	mustAppend(t, l, "J", "a1", 1, 50)
	mustAppend(t, l, "J", "a2", 1, 3)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	l = open(t)
	defer l.Close()
	mustAppend(t, l, "J", "a1", 40, 20)
	if got := all(t, l, "J", 7); len(got) != 62 || got[61].Message != "a1/59" {
		t.Errorf("%d events, the last %+v", len(got), got[len(got)-1])
	}
}

func concurrent(t *testing.T, open Open) {
	l := open(t)
	defer l.Close()
	const writers, batches, size = 8, 20, 3
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			source := fmt.Sprintf("a%d", w+1)
			for b := range batches {
				first := uint64(b*size + 1)
				for range 2 { // each sent twice
					if next, err := l.Append(context.Background(), "J", source, first, Batch(source, first, size)); err != nil || next != first+size {
						t.Errorf("%s: next %d, %v", source, next, err)
					}
				}
			}
		})
	}
	wg.Wait()
	seen := map[string]uint64{}
	got := all(t, l, "J", 64)
	for _, e := range got {
		source, _, _ := strings.Cut(e.Message, "/")
		seen[source]++
		if e.SourceSeq != seen[source] {
			t.Fatalf("%s: line %d comes after line %d", source, e.SourceSeq, seen[source]-1)
		}
	}
	if len(got) != writers*batches*size {
		t.Errorf("stored %d, want %d", len(got), writers*batches*size)
	}
}

func tails(t *testing.T, open Open) {
	l := open(t)
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	const total = 600
	var wg sync.WaitGroup
	for r := range 6 {
		wg.Go(func() {
			tail := Follow(l, "J", uint64(r))
			want := uint64(r + 1)
			for want <= total {
				got, err := tail.Next(ctx, 1+r*10)
				if err != nil {
					t.Errorf("reader %d at %d: %v", r, want, err)
					return
				}
				for _, e := range got {
					if e.Seq != want {
						t.Errorf("reader %d: got %d, want %d", r, e.Seq, want)
						return
					}
					want++
				}
			}
			if tail.Resume() != total {
				t.Errorf("reader %d would go on at %d", r, tail.Resume())
			}
		})
	}
	for first := uint64(1); first <= total; first += 20 {
		mustAppend(t, l, "J", "a1", first, 20)
	}
	wg.Wait()
}

func idleReader(t *testing.T, open Open) {
	l := open(t)
	defer l.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	tail := Follow(l, "J", 0)
	mustAppend(t, l, "J", "a1", 1, 1)
	if _, err := tail.Next(ctx, 1); err != nil {
		t.Fatal(err)
	}
	// The reader now sleeps while more comes than any buffer holds.
	for first := uint64(2); first < 5000; first += 500 {
		mustAppend(t, l, "J", "a1", first, 500)
	}
	want := uint64(2)
	for want < 5000 {
		got, err := tail.Next(ctx, 100)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range got {
			if e.Seq != want {
				t.Fatalf("got %d, want %d", e.Seq, want)
			}
			want++
		}
	}
}

func last(t *testing.T, open Open) {
	l := open(t)
	defer l.Close()
	mustAppend(t, l, "J", "a1", 1, 30)
	mustAppend(t, l, "J", "a2", 1, 30)
	mustAppend(t, l, "J", "a1", 31, 2)
	got, err := l.LastOf(context.Background(), "J", "a1", 4)
	if err != nil {
		t.Fatal(err)
	}
	var words []string
	for _, e := range got {
		words = append(words, e.Message)
	}
	if want := "a1/29 a1/30 a1/31 a1/32"; strings.Join(words, " ") != want {
		t.Errorf("got %v, want %s", words, want)
	}
	if got, err := l.LastOf(context.Background(), "J", "a9", 4); err != nil || len(got) != 0 {
		t.Errorf("of an unknown source: %v, %v", got, err)
	}
	if got, err := l.LastOf(context.Background(), "J", "a2", 1000); err != nil || len(got) != 30 {
		t.Errorf("of more than there are: %d, %v", len(got), err)
	}
}

func oversize(t *testing.T, open Open) {
	l := open(t)
	defer l.Close()
	e := Batch("a1", 1, 2)
	e[0].Message = strings.Repeat("ü", events.MaxEvent)
	e[1].Fields = []byte(`{"not":`) // cannot be encoded
	if next, err := l.Append(context.Background(), "J", "a1", 1, e); err != nil || next != 3 {
		t.Fatalf("next %d, %v", next, err)
	}
	got := all(t, l, "J", 10)
	if len(got) != 2 || !strings.HasPrefix(got[0].Message, "üü") || len(got[0].Message) > 8192 || len(got[0].Fields) == 0 {
		t.Errorf("stored %d events, the first with %d bytes of message", len(got), len(got[0].Message))
	}
	if got[1].Message != "a1/2" || got[1].SourceSeq != 2 {
		t.Errorf("the event with broken fields became %+v", got[1])
	}
}

func closing(t *testing.T, open Open) {
	l := open(t)
	mustAppend(t, l, "J", "a1", 1, 1)
	done := make(chan error, 2)
	for _, job := range []string{"J", "unknown"} {
		go func() { done <- l.Wait(context.Background(), job, 10) }()
	}
	time.Sleep(20 * time.Millisecond)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		select {
		case err := <-done:
			if !errors.Is(err, events.ErrClosed) {
				t.Errorf("a waiter got %v", err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("a waiter still waits")
		}
	}
	if _, err := l.Append(context.Background(), "J", "a1", 2, Batch("a1", 2, 1)); !errors.Is(err, events.ErrClosed) {
		t.Errorf("append after close: %v", err)
	}
}

func names(t *testing.T, open Open) {
	l := open(t)
	defer l.Close()
	ctx := context.Background()
	if got, err := l.Read(ctx, "unknown", 0, 10); err != nil || len(got) != 0 {
		t.Errorf("reading an unknown job: %v, %v", got, err)
	}
	if next, err := l.Next(ctx, "unknown", "a1"); err != nil || next != 1 {
		t.Errorf("next of an unknown job: %d, %v", next, err)
	}
	for _, bad := range []string{"", "..", "a/b", "a b", strings.Repeat("x", 65)} {
		if _, err := l.Append(ctx, bad, "a1", 1, Batch("a1", 1, 1)); err == nil {
			t.Errorf("job %q was accepted", bad)
		}
		if _, err := l.Append(ctx, "J", bad, 1, Batch("a1", 1, 1)); err == nil {
			t.Errorf("source %q was accepted", bad)
		}
	}
	if _, err := l.Append(ctx, "J", "a1", 0, Batch("a1", 0, 1)); err == nil {
		t.Error("a batch numbered from 0 was accepted")
	}
	timeout, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if err := l.Wait(timeout, "J", 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waiting for an event that does not come: %v", err)
	}
}

// model compares the log with a slice under random operations.
func model(t *testing.T, fresh func(t testing.TB) Open) {
	rapid.Check(t, func(rt *rapid.T) {
		open := fresh(t)
		l := open(t)
		defer func() { l.Close() }()
		var stream []string
		next := map[string]uint64{"a1": 1, "a2": 1, "state": 1}
		for range rapid.IntRange(1, 12).Draw(rt, "operations") {
			if rapid.IntRange(0, 4).Draw(rt, "operation") == 0 {
				if err := l.Close(); err != nil {
					rt.Fatal(err)
				}
				l = open(t)
				continue
			}
			source := rapid.SampledFrom([]string{"a1", "a2", "state"}).Draw(rt, "source")
			first := rapid.Uint64Range(1, next[source]+1).Draw(rt, "first")
			n := rapid.IntRange(0, 5).Draw(rt, "n")
			got, err := l.Append(context.Background(), "J", source, first, Batch(source, first, n))
			if first > next[source] {
				if !errors.Is(err, events.ErrHole) || got != next[source] {
					rt.Fatalf("hole: next %d, %v; want %d", got, err, next[source])
				}
				continue
			}
			for i := next[source]; i < first+uint64(n); i++ {
				stream = append(stream, fmt.Sprintf("%s/%d", source, i))
			}
			next[source] = max(next[source], first+uint64(n))
			if err != nil || got != next[source] {
				rt.Fatalf("next %d, %v; want %d", got, err, next[source])
			}
		}
		var words []string
		for _, e := range all(t, l, "J", rapid.IntRange(1, 9).Draw(rt, "step")) {
			words = append(words, e.Message)
		}
		if strings.Join(words, " ") != strings.Join(stream, " ") {
			rt.Fatalf("stream is %v, want %v", words, stream)
		}
	})
}
