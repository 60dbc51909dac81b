//go:build linux

package events_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
)

// followed starts a reader of a job; the returned function waits until it has
// the whole stream, and checks that it has every line.
func followed(t *testing.T, c *cluster, job string, lines ...int) (y *tally, finish func()) {
	t.Helper()
	y = newTally(t)
	ctx, cancel := context.WithTimeout(context.Background(), 100*time.Second)
	var reading sync.WaitGroup
	var failed error
	reader := c.client(api.RoleUser)
	reading.Go(func() { failed = reader.Events(ctx, job, 0, true, y.take) })
	t.Cleanup(func() { cancel(); reading.Wait() })
	return y, func() {
		t.Helper()
		reading.Wait()
		if failed != nil {
			t.Fatalf("the reader: %v, having %v", failed, y.next)
		}
		for i, n := range lines {
			if got := y.count(fmt.Sprintf("s%d/1", i)); got != uint64(n) {
				t.Errorf("stage %d: %d lines, want %d", i, got, n)
			}
		}
		if want := c.store.LastTransition(job); y.count(api.LevelState) != want {
			t.Errorf("%d state changes, want %d", y.count(api.LevelState), want)
		}
	}
}

// spools are the attempts whose lines the agent keeps.
func spools(dir string) int {
	names, _ := filepath.Glob(filepath.Join(dir, "spools", "*"))
	return len(names)
}

// Servers whose logs are on their own disks: whoever leads gets from the agents
// what others were given, of attempts that run and of those that are over. A
// reader sees every line once through all of it, and at the end there is one
// archive that every server reads alike.
func TestLeadersChangeAndShareNoLog(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 3, "")
	dir, _ := c.agent()
	job := c.submit(250, 400, 400, 300)
	y, finish := followed(t, c, job, 400, 400, 300)
	for i, at := range []struct {
		source string
		lines  uint64
		leader int
	}{{"s0/1", 150, 1}, {"s1/1", 50, 2}, {"s1/1", 250, 0}, {"s2/1", 100, 1}} {
		until(t, fmt.Sprintf("the reader is at change %d", i), func() bool { return y.count(at.source) >= at.lines })
		c.elect(at.leader)
	}
	finish()
	until(t, "the stream is archived", func() bool { return len(c.store.EventArchives(job)) > 0 })
	until(t, "the agent keeps nothing more", func() bool { return spools(dir) == 0 })
	var first string
	for i := range c.servers {
		c.elect(i)
		got := c.wire(i, job, "follow=false", "application/x-ndjson")
		if first == "" {
			first = got
		}
		if got != first || strings.Count(got, "\"seq\"") != 1100+int(c.store.LastTransition(job)) {
			t.Errorf("server %d has another stream: %d events", i, strings.Count(got, "\"seq\""))
		}
	}
	// No server's own log is used for what is archived.
	if parts := c.store.EventArchives(job); len(parts) != 1 || parts[0].First != 1 {
		t.Errorf("parts %+v", parts)
	}
}

// Redis is killed, stopped, and comes back empty; the server and the agent are
// restarted. No line is lost, none comes twice, the order stays.
func TestEverythingFallsOnceAndNoLineIsLost(t *testing.T) {
	t.Parallel()
	r := startRedis(t, "--appendfsync", "everysec")
	c := newCluster(t, 2, r.url())
	dir, end := c.agent()
	job := c.submit(300, 500, 1500)
	y, finish := followed(t, c, job, 500, 1500)
	reached := func(source string, lines uint64) {
		t.Helper()
		until(t, fmt.Sprintf("the reader has %d lines of %s", lines, source), func() bool { return y.count(source) >= lines })
	}
	reached("s0/1", 100)
	r.kill() // for longer than any retry of a client's
	time.Sleep(2 * time.Second)
	r.start()
	reached("s1/1", 50)
	if err := r.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(4 * time.Second) // longer than the time-out of one command
	if err := r.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	reached("s1/1", 200)
	if got := r.tell("FLUSHALL"); !strings.HasPrefix(got, "+OK") {
		t.Fatalf("FLUSHALL: %q", got)
	}
	reached("s1/1", 700)
	c.term() // the leader is gone; its server comes back on the same address
	c.servers[0].close()
	end()
	time.Sleep(300 * time.Millisecond)
	c.open(0)
	c.elect(0)
	_, _ = c.agent()
	reached("s1/1", 1000)
	c.elect(1)
	r.kill()
	if err := os.RemoveAll(filepath.Join(r.dir, "appendonlydir")); err != nil {
		t.Fatal(err)
	}
	r.start()
	finish()
	until(t, "the stream is archived", func() bool { return len(c.store.EventArchives(job)) > 0 })
	until(t, "the agent keeps nothing more", func() bool { return spools(dir) == 0 })
}

// Before and after it is archived a stream is the same on the wire, in both
// forms, from any id, with filters.
func TestTheArchiveIsTheSameOnTheWire(t *testing.T) {
	t.Parallel()
	c := newCluster(t, 1, "")
	c.agent()
	job := c.submit(0, 3000, 10)
	_, finish := followed(t, c, job, 3000, 10)
	finish()
	const sse, lines = "text/event-stream", "application/x-ndjson"
	look := func() (out []string) {
		for _, accept := range []string{sse, lines} {
			for _, query := range []string{"follow=false", "", "after=2999", "after=7&level=state", "level=METRIC&stage=s1", "follow=false&after=3000", "after=99999&level=none&follow=false"} {
				if strings.HasPrefix(query, "after=99999") && accept == lines {
					continue // refused: there is no such number
				}
				out = append(out, c.wire(0, job, query, accept))
			}
		}
		return append(out, c.wire(0, job, "follow=false", sse, "Last-Event-ID", "1234"))
	}
	before := look()
	until(t, "the stream is archived", func() bool { return len(c.store.EventArchives(job)) > 0 })
	if got := look(); strings.Join(got, "") != strings.Join(before, "") {
		t.Error("archived, the stream is another one")
	}
	if n, err := c.servers[0].log.(*events.Disk).Sweep(context.Background(), 0); n != 1 || err != nil {
		t.Fatalf("swept %d, %v", n, err)
	}
	// The encoded chunks of before must not be what is compared.
	c.term()
	c.servers[0].close()
	c.open(0)
	c.elect(0)
	for i, got := range look() {
		if got != before[i] {
			t.Errorf("request %d: trimmed, the stream is another one:\n%.300s\nwas\n%.300s", i, got, before[i])
		}
	}
}
