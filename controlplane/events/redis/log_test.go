package redis_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
	"github.com/tunemesh/tunemesh/controlplane/events/eventstest"
	"github.com/tunemesh/tunemesh/controlplane/events/redis"
)

func TestRedisIsALog(t *testing.T) {
	s := newServer(t, "--appendfsync", "no")
	for name, c := range map[string]redis.Config{
		"defaults":       {},
		"tiny memory":    {RingEvents: 3},
		"one connection": {RingEvents: 1, Followed: 1, KeepBytes: 1 << 30, KeepFor: time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			eventstest.Run(t, func(t testing.TB) eventstest.Open {
				c := c
				c.URL, c.Prefix = s.url(), newPrefix()
				return func(t testing.TB) events.Log { return open(t, c) }
			})
		})
	}
}

func TestARedisThatIsAwayIsNamedAndWaitedFor(t *testing.T) {
	s := newServer(t)
	s.kill()
	l := open(t, redis.Config{URL: "redis://user:secret@" + s.addr()})
	ctx := context.Background()
	begun := time.Now()
	_, err := l.Append(ctx, "J", "a1", 1, eventstest.Batch("a1", 1, 1))
	if !errors.Is(err, events.ErrAway) || !strings.Contains(err.Error(), s.addr()) || strings.Contains(err.Error(), "secret") {
		t.Errorf("append: %v", err)
	}
	if _, err := l.Read(ctx, "J", 0, 10); !errors.Is(err, events.ErrAway) {
		t.Errorf("read: %v", err)
	}
	if _, err := l.Next(ctx, "J", "a1"); !errors.Is(err, events.ErrAway) {
		t.Errorf("next: %v", err)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("three refusals took %v", took)
	}
	short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
	defer cancel()
	if err := l.Wait(short, "J", 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("wait: %v", err)
	}
}

// A Redis that is there and does nothing, as on a host that swaps.
func TestARedisThatHangsIsGivenUpOn(t *testing.T) {
	s := newServer(t)
	l := open(t, redis.Config{URL: s.url()})
	ctx := context.Background()
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	short, cancel := context.WithTimeout(ctx, 200*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := l.Append(short, "J", "a1", 1, eventstest.Batch("a1", 1, 1)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("append with little time: %v", err)
	}
	if took := time.Since(begun); took > 2*time.Second {
		t.Errorf("it took %v", took)
	}
	if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	// The first batch may have arrived or not; sent again it is there once.
	if next, err := l.Append(ctx, "J", "a1", 1, eventstest.Batch("a1", 1, 1)); err != nil || next != 2 {
		t.Errorf("sent again: %d, %v", next, err)
	}
	if got := readAll(t, l, "J"); len(got) != 1 {
		t.Errorf("stored %v", got)
	}
}

func TestAWrongPasswordIsSaidAtOnce(t *testing.T) {
	s := newServer(t, "--requirepass", "right")
	_, err := redis.Open(context.Background(), redis.Config{URL: "redis://:wrong@" + s.addr()})
	if err == nil || errors.Is(err, events.ErrAway) || !strings.Contains(err.Error(), "password") || strings.Contains(err.Error(), "wrong@") {
		t.Errorf("open: %v", err)
	}
	l := open(t, redis.Config{URL: "redis://:right@" + s.addr()})
	if next, err := l.Append(context.Background(), "J", "a1", 1, eventstest.Batch("a1", 1, 1)); err != nil || next != 2 {
		t.Errorf("with the right one: %d, %v", next, err)
	}
}

func TestRetentionSaysWhatIsGone(t *testing.T) {
	s := newServer(t)
	now := time.Unix(1_000_000, 0)
	ctx := context.Background()
	add := func(l *redis.Log, first uint64, n int) {
		t.Helper()
		if next, err := l.Append(ctx, "J", "a1", first, eventstest.Batch("a1", first, n)); err != nil || next != first+uint64(n) {
			t.Fatalf("append from %d: %d, %v", first, next, err)
		}
	}
	check := func(l *redis.Log, firstKept, last uint64) {
		t.Helper()
		got, err := l.Read(ctx, "J", 0, 1000)
		if err != nil || len(got) == 0 {
			t.Fatal(got, err)
		}
		if firstKept > 1 {
			e := got[0]
			if e.Seq != firstKept-1 || e.Level != api.LevelWarn || !strings.Contains(e.Message, fmt.Sprintf("events 1 to %d ", firstKept-1)) {
				t.Errorf("in the place of what is gone stands %+v", e)
			}
			got = got[1:]
		}
		if got[0].Seq != firstKept || got[0].Message != fmt.Sprintf("a1/%d", firstKept) || got[len(got)-1].Seq != last {
			t.Errorf("events %d to %d are left, want %d to %d", got[0].Seq, got[len(got)-1].Seq, firstKept, last)
		}
	}
	t.Run("by age", func(t *testing.T) {
		l := open(t, redis.Config{URL: s.url(), Prefix: newPrefix(), KeepFor: time.Hour, Now: func() time.Time { return now }})
		add(l, 1, 300)
		now = now.Add(30 * time.Minute)
		add(l, 301, 10)
		check(l, 1, 310)
		now = now.Add(40 * time.Minute)
		add(l, 311, 1)
		check(l, 301, 311)
		// What is gone was stored: sent again, it is skipped.
		if next, err := l.Append(ctx, "J", "a1", 1, eventstest.Batch("a1", 1, 5)); err != nil || next != 312 {
			t.Errorf("sent again: %d, %v", next, err)
		}
		// A batch never loses its own events.
		now = now.Add(-3 * time.Hour)
		add(l, 312, 2)
		now = now.Add(9 * time.Hour)
		add(l, 314, 3)
		check(l, 314, 316)
	})
	t.Run("by size", func(t *testing.T) {
		l := open(t, redis.Config{URL: s.url(), Prefix: newPrefix(), KeepBytes: 2000})
		for first := uint64(1); first < 200; first += 10 {
			add(l, first, 10)
		}
		got, err := l.Read(ctx, "J", 0, 1000)
		if err != nil || len(got) < 11 || len(got) > 40 {
			t.Fatalf("%d events are left, %v", len(got), err)
		}
		check(l, got[1].Seq, 200)
	})
	t.Run("of a finished job", func(t *testing.T) {
		l := open(t, redis.Config{URL: s.url(), Prefix: newPrefix()})
		add(l, 1, 3)
		if err := l.Finish(ctx, "J", 50*time.Millisecond); err != nil {
			t.Fatal(err)
		}
		check(l, 1, 3)
		time.Sleep(80 * time.Millisecond)
		if got, err := l.Read(ctx, "J", 0, 10); err != nil || len(got) != 0 {
			t.Errorf("after its time: %d events, %v", len(got), err)
		}
		if next, err := l.Append(ctx, "J", "a1", 4, eventstest.Batch("a1", 4, 1)); !errors.Is(err, events.ErrHole) || next != 1 {
			t.Errorf("append after its time: %d, %v", next, err)
		}
	})
}

func TestEitherKeyAloneLost(t *testing.T) {
	s := newServer(t)
	ctx := context.Background()
	for _, lost := range []string{"counters", "stream"} {
		t.Run(lost, func(t *testing.T) {
			prefix := newPrefix()
			l := open(t, redis.Config{URL: s.url(), Prefix: prefix})
			var want []string
			for first := uint64(1); first <= 1200; first += 400 {
				for _, source := range []string{"a1", "a2"} {
					if _, err := l.Append(ctx, "J", source, first, eventstest.Batch(source, first, 400)); err != nil {
						t.Fatal(err)
					}
					for i := first; i < first+400; i++ {
						want = append(want, fmt.Sprintf("%s/%d", source, i))
					}
				}
			}
			key := map[string]string{"counters": prefix + ":events:{J}:n", "stream": prefix + ":events:{J}"}[lost]
			if n, err := s.client().Del(ctx, key).Result(); err != nil || n != 1 {
				t.Fatal(n, err)
			}
			next, err := l.Append(ctx, "J", "a2", 1202, eventstest.Batch("a2", 1202, 1))
			if lost == "stream" {
				if !errors.Is(err, events.ErrHole) || next != 1 {
					t.Errorf("append: %d, %v", next, err)
				}
				return
			}
			if !errors.Is(err, events.ErrHole) || next != 1201 {
				t.Errorf("append beyond: %d, %v", next, err)
			}
			if next, err := l.Append(ctx, "J", "a2", 1199, eventstest.Batch("a2", 1199, 3)); err != nil || next != 1202 {
				t.Errorf("append: %d, %v", next, err)
			}
			if got := readAll(t, l, "J"); strings.Join(got, " ") != strings.Join(append(want, "a2/1201"), " ") {
				t.Errorf("%d events, want %d", len(got), len(want)+1)
			}
		})
	}
}

func TestRedisGoesOnAfterAnArchive(t *testing.T) {
	s := newServer(t)
	eventstest.RunArchived(t, func(t testing.TB) eventstest.OpenOn {
		prefix := newPrefix()
		return func(t testing.TB, base func(string) events.Base) events.Log {
			return open(t, redis.Config{URL: s.url(), Prefix: prefix, Base: base})
		}
	})
}
