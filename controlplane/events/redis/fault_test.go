package redis_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/controlplane/events"
	"github.com/tunemesh/tunemesh/controlplane/events/eventstest"
	"github.com/tunemesh/tunemesh/controlplane/events/redis"
)

// sender sends the lines of one source from a spool that keeps them all.
type sender struct {
	source       string
	total, batch uint64
	acked        atomic.Uint64
	refused      atomic.Int64 // holes
	failed       atomic.Int64
}

// run sends until all lines are acknowledged, the last batch once more to hear
// it from the log.
func (s *sender) run(t *testing.T, ctx context.Context, l events.Log) {
	next := uint64(1)
	for {
		n := min(s.batch, s.total+1-next)
		got, err := l.Append(ctx, "J", s.source, next, eventstest.Batch(s.source, next, int(n)))
		switch {
		case errors.Is(err, events.ErrHole):
			s.refused.Add(1)
			if got >= next {
				t.Errorf("%s: a batch from %d is refused, %d is expected", s.source, next, got)
				return
			}
			next = got
		case ctx.Err() != nil:
			t.Errorf("%s: stopped at %d of %d: %v", s.source, next, s.total, err)
			return
		case errors.Is(err, events.ErrAway):
			s.failed.Add(1)
			time.Sleep(5 * time.Millisecond)
		case err != nil:
			t.Errorf("%s: %v", s.source, err)
			return
		case got < next+n:
			t.Errorf("%s: %d lines from %d are acknowledged up to %d", s.source, n, next, got)
			return
		default:
			s.acked.Store(got - 1)
			if next = got; next > s.total {
				return
			}
		}
	}
}

func acked(senders []*sender) (n uint64) {
	for _, s := range senders {
		n += s.acked.Load()
	}
	return n
}

// until waits for a condition.
func until(t *testing.T, ctx context.Context, what string, ok func() bool) {
	t.Helper()
	for !ok() {
		if ctx.Err() != nil {
			t.Fatalf("%s did not come", what)
		}
		time.Sleep(time.Millisecond)
	}
}

// checkExact checks that a stream has every line of every sender once and in
// its source's order.
func checkExact(t *testing.T, words []string, senders []*sender) {
	t.Helper()
	seen, total := map[string]uint64{}, 0
	for i, word := range words {
		source, _, _ := strings.Cut(word, "/")
		seen[source]++
		if want := fmt.Sprintf("%s/%d", source, seen[source]); word != want {
			t.Fatalf("event %d is %s, want %s", i+1, word, want)
		}
	}
	for _, s := range senders {
		total += int(s.total)
		if seen[s.source] != s.total {
			t.Errorf("%s: %d lines are stored, want %d", s.source, seen[s.source], s.total)
		}
	}
	if len(words) != total {
		t.Errorf("%d events are stored, want %d", len(words), total)
	}
}

// follow reads a stream up to a number as an SSE client does: after an error it
// goes on where it was.
func follow(t *testing.T, ctx context.Context, l events.Log, total int) (words []string, errs int) {
	tail := eventstest.Follow(l, "J", 0)
	for len(words) < total {
		got, err := tail.Next(ctx, 100)
		if ctx.Err() != nil {
			t.Errorf("a reader got %d of %d events", len(words), total)
			return words, errs
		}
		if err != nil {
			if !errors.Is(err, events.ErrAway) {
				t.Errorf("a reader: %v", err)
				return words, errs
			}
			errs++
			tail = eventstest.Follow(l, "J", tail.Resume())
			time.Sleep(10 * time.Millisecond)
			continue
		}
		for _, e := range got {
			if e.Seq != uint64(len(words)+1) {
				t.Errorf("a reader: after %d comes %d", len(words), e.Seq)
				return words, errs
			}
			words = append(words, e.Message)
		}
	}
	return words, errs
}

// Redis is killed in the middle of appends and started again, three times, while
// 50 readers follow: nothing acknowledged is lost, nothing is there twice, and
// every reader sees every event once.
func TestKilledInMidAppend(t *testing.T) {
	s := newServer(t)
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	l := open(t, redis.Config{URL: s.url()})
	var senders []*sender
	var sending, reading sync.WaitGroup
	total := 0
	for i := range 4 {
		w := &sender{source: events.Source(uint64(i + 1)), total: 1000, batch: 4}
		senders, total = append(senders, w), total+int(w.total)
		sending.Go(func() { w.run(t, ctx, l) })
	}
	const readers = 50
	streams := make([][]string, readers)
	for r := range readers {
		reading.Go(func() { streams[r], _ = follow(t, ctx, l, total) })
	}
	for kill := range uint64(3) {
		until(t, ctx, "progress", func() bool { return acked(senders) > (kill+1)*uint64(total)/5 })
		before := acked(senders)
		s.kill()
		if before = max(before, acked(senders)); before >= uint64(total) {
			t.Fatal("too easy: all was sent before the last kill")
		}
		time.Sleep(100 * time.Millisecond)
		s.start()
		if n, err := s.client().XLen(ctx, "tunemesh:events:{J}").Result(); err != nil || uint64(n) < before {
			t.Fatalf("%d events are there after the restart, %d were acknowledged, %v", n, before, err)
		}
	}
	sending.Wait()
	reading.Wait()
	failures := int64(0)
	for _, w := range senders {
		failures += w.failed.Load()
		if n := w.refused.Load(); n > 0 {
			t.Errorf("%s was refused %d times though nothing was lost", w.source, n)
		}
	}
	if failures == 0 {
		t.Error("too easy: no append failed")
	}
	words := readAll(t, l, "J")
	checkExact(t, words, senders)
	for r, got := range streams {
		if strings.Join(got, " ") != strings.Join(words, " ") {
			t.Errorf("reader %d saw another stream", r)
		}
	}
}

// All is removed in the middle of appends: the senders are refused with the
// number expected, send again, and the stream is exact.
func TestEmptiedInMidStream(t *testing.T) {
	s := newServer(t, "--appendfsync", "no")
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	l := open(t, redis.Config{URL: s.url()})
	c := s.client()
	var senders []*sender
	var sending sync.WaitGroup
	total := uint64(0)
	for i := range 4 {
		w := &sender{source: events.Source(uint64(i + 1)), total: 1000, batch: 4}
		senders, total = append(senders, w), total+w.total
		sending.Go(func() { w.run(t, ctx, l) })
	}
	for range 3 {
		until(t, ctx, "progress", func() bool {
			n, err := c.XLen(ctx, "tunemesh:events:{J}").Result()
			return err == nil && uint64(n) > total/4 && uint64(n) < total*3/4
		})
		if err := c.FlushAll(ctx).Err(); err != nil {
			t.Fatal(err)
		}
	}
	sending.Wait()
	var again sync.WaitGroup
	for _, w := range senders {
		if w.refused.Load() == 0 {
			t.Errorf("%s was never refused", w.source)
		}
		again.Go(func() { w.run(t, ctx, l) }) // all over: nothing is stored twice
	}
	again.Wait()
	checkExact(t, readAll(t, l, "J"), senders)
}

// A reader that stands at a number when all is lost gets the numbers behind it,
// each once, when the source has sent again; its log says what happened.
func TestAReaderOutlivesATotalLoss(t *testing.T) {
	s := newServer(t, "--appendfsync", "no")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for _, name := range []string{"this server appends", "another appends"} {
		t.Run(name, func(t *testing.T) {
			var log safeBuffer
			prefix := newPrefix()
			l := open(t, redis.Config{URL: s.url(), Prefix: prefix, Log: slog.New(slog.NewTextHandler(&log, nil))})
			writer := l
			if name == "another appends" {
				writer = open(t, redis.Config{URL: s.url(), Prefix: prefix})
			}
			var reading sync.WaitGroup
			first := &sender{source: "a1", total: 700, batch: 50}
			first.run(t, ctx, writer)
			reading.Go(func() {
				words, _ := follow(t, ctx, l, 1000)
				checkExact(t, words, []*sender{{source: "a1", total: 1000}})
			})
			until(t, ctx, "a reader that waits for 701", func() bool { return blocked(ctx, s) != "0" })
			if err := s.client().FlushAll(ctx).Err(); err != nil {
				t.Fatal(err)
			}
			if next, err := writer.Append(ctx, "J", "a1", 701, eventstest.Batch("a1", 701, 1)); !errors.Is(err, events.ErrHole) || next != 1 {
				t.Errorf("append after the loss: %d, %v; want 1", next, err)
			}
			time.Sleep(1200 * time.Millisecond) // the follower has looked
			second := &sender{source: "a1", total: 1000, batch: 50}
			second.run(t, ctx, writer)
			reading.Wait()
			if got := readAll(t, writer, "J"); len(got) != 1000 {
				t.Errorf("%d events are stored", len(got))
			}
			if text := log.String(); !strings.Contains(text, "was lost or went back") || !strings.Contains(text, "job=J") {
				t.Errorf("the log does not tell of the loss: %s", text)
			}
		})
	}
}

// blocked is how many clients wait in Redis.
func blocked(ctx context.Context, s *server) string {
	info, _ := s.client().Info(ctx, "clients").Result()
	_, rest, _ := strings.Cut(info, "blocked_clients:")
	n, _, _ := strings.Cut(rest, "\r")
	return n
}

// Many readers of one job are one reader to Redis.
func TestReadersShareOneBlockingRead(t *testing.T) {
	s := newServer(t, "--appendfsync", "no")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	l := open(t, redis.Config{URL: s.url()})
	var reading sync.WaitGroup
	for range 200 {
		reading.Go(func() { follow(t, ctx, l, 50) })
	}
	until(t, ctx, "a follower", func() bool { return blocked(ctx, s) != "0" })
	if n := blocked(ctx, s); n != "1" {
		t.Errorf("%s clients are blocked in Redis, want 1", n)
	}
	w := &sender{source: "a1", total: 50, batch: 1}
	w.run(t, ctx, l)
	reading.Wait()
}

func TestCloseDoesNotWaitForABlockedRead(t *testing.T) {
	s := newServer(t)
	l := open(t, redis.Config{URL: s.url()})
	done := make(chan error, 1)
	go func() { done <- l.Wait(context.Background(), "J", 0) }()
	time.Sleep(100 * time.Millisecond)
	begun := time.Now()
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if err := <-done; !errors.Is(err, events.ErrClosed) {
		t.Errorf("wait: %v", err)
	}
	if took := time.Since(begun); took > 500*time.Millisecond {
		t.Errorf("closing took %v", took)
	}
}

type safeBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (s *safeBuffer) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Write(p)
}

func (s *safeBuffer) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String()
}
