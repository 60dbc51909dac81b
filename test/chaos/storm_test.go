//go:build linux

package chaos

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"
)

func envInt(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil {
		return n
	}
	return otherwise
}

// seed is that of the whole run: TUNEMESH_CHAOS_SEED, or one of the moment.
func seed(t *testing.T) uint64 {
	n := uint64(time.Now().UnixNano() % 1_000_000)
	if given, err := strconv.ParseUint(os.Getenv("TUNEMESH_CHAOS_SEED"), 10, 64); err == nil {
		n = given
	}
	t.Logf("seed %d: TUNEMESH_CHAOS_SEED=%d repeats the schedule of faults and the workload", n, n)
	return n
}

func percentiles(list []time.Duration) string {
	if len(list) == 0 {
		return "none"
	}
	list = slices.Clone(list)
	slices.Sort(list)
	at := func(p int) time.Duration { return list[min(len(list)-1, len(list)*p/100)].Round(time.Millisecond) }
	return fmt.Sprintf("n=%d min %s p50 %s p90 %s p99 %s max %s", len(list), at(0), at(50), at(90), at(99), list[len(list)-1].Round(time.Millisecond))
}

func median(list []time.Duration) time.Duration {
	if len(list) == 0 {
		return 0
	}
	list = slices.Clone(list)
	slices.Sort(list)
	return list[len(list)/2]
}

// TestAStorm injects faults of all kinds under load, in rounds; after each round
// everything is healed and checked. TUNEMESH_CHAOS_FAULTS is how many faults,
// TUNEMESH_CHAOS_MINUTES how long at most.
func TestAStorm(t *testing.T) {
	limit, minutes := envInt("TUNEMESH_CHAOS_FAULTS", 40), envInt("TUNEMESH_CHAOS_MINUTES", 2)
	n := seed(t)
	m := start(t, shape{servers: envInt("TUNEMESH_CHAOS_SERVERS", 3), agents: envInt("TUNEMESH_CHAOS_AGENTS", 3), smallDisks: true, injected: injectedBuild, snapshots: 500})
	w := newWorkload(m, n)
	s := newStorm(w)
	s.long = minutes > 5
	s.register(t)
	if err := w.begin(4); err != nil {
		t.Fatal(err)
	}
	adapter := w.calmAdapter(t)
	time.Sleep(2 * time.Second)
	calm := m.usages(w.token)

	deadline := time.Now().Add(time.Duration(minutes) * time.Minute)
	lanes := s.lanes(n)
	round := envInt("TUNEMESH_CHAOS_ROUND", 100)
	for part := 1; s.count() < limit && time.Now().Before(deadline); part++ {
		ctx, cancel := context.WithDeadline(context.Background(), deadline)
		w.paused.Store(false)
		s.blow(ctx, lanes, min(limit, part*round))
		cancel()
		w.paused.Store(true)
		s.quiet()
		t.Logf("after %d faults: %d violations; %d jobs", s.count(), len(s.faults), len(w.order))
		if len(s.faults) > 20 {
			break
		}
	}
	s.summary(t)
	w.checked(t, adapter)
	s.rested(calm)
	for _, f := range s.faults {
		t.Error(f)
	}
}

// quiet waits until the mesh has come to rest and checks what can be checked
// between two rounds.
func (s *storm) quiet() {
	s.healed("a round of faults")
	if open := s.work.settle(4 * time.Minute); len(open) > 0 {
		s.fail("I2: %d jobs do not end after the faults have: %s", len(open), strings.Join(open, "\n  "))
	}
	for _, f := range s.mesh.leftovers(90 * time.Second) {
		s.fail("%s", f)
	}
	for _, f := range s.equalStates() {
		s.fail("%s", f)
	}
	s.mesh.say("held at rest: %v", s.mesh.usages(s.work.token))
}

// rested checks that what the servers and agents hold goes back to what it was
// in calm, once connections that nobody uses have had time to be closed.
func (s *storm) rested(calm map[string]usage) {
	deadline := time.Now().Add(150 * time.Second)
	for {
		s.mesh.http.CloseIdleConnections()
		time.Sleep(5 * time.Second)
		now := s.mesh.usages(s.work.token)
		faults := growth(calm, now)
		if len(faults) == 0 || time.Now().After(deadline) {
			s.mesh.say("calm: %v; held at the end: %v", calm, now)
			for _, f := range faults {
				s.fail("%s", f)
			}
			return
		}
	}
}

// register makes the node that untilWrite writes to.
func (s *storm) register(t *testing.T) {
	t.Helper()
	if err := s.mesh.eventually(20*time.Second, func() (err error) {
		s.probe, err = s.mesh.enrolGhost(t.Context(), s.mesh.servers[0].url, "probe")
		return err
	}); err != nil {
		t.Fatal(err)
	}
}

// calmAdapter runs one training before the storm.
func (w *workload) calmAdapter(t *testing.T) string {
	t.Helper()
	w.mu.Lock()
	old := w.training
	w.training = 1
	w.mu.Unlock()
	p := w.plan(randomOf(1))
	w.mu.Lock()
	w.training = old
	w.mu.Unlock()
	if w.create(t.Context(), 0, p, w.mesh.servers[0].url); !p.acked {
		t.Fatal("the calm run's job was not taken")
	}
	if err := w.mesh.eventually(2*time.Minute, func() error {
		d, err := w.mesh.patient().Job(t.Context(), p.id)
		if err == nil && !d.State.Terminal() {
			err = fmt.Errorf("job is %s", d.State)
		}
		return err
	}); err != nil {
		t.Fatalf("the calm run: %v", err)
	}
	list, err := w.mesh.patient().Artifacts(t.Context(), p.id)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range list {
		if a.Name == "adapter/adapter_model.safetensors" {
			t.Logf("the calm run's adapter is %s", a.SHA256)
			return a.SHA256
		}
	}
	t.Fatal("the calm run has no adapter")
	return ""
}

func (s *storm) summary(t *testing.T) {
	names := make([]string, 0, len(s.counts))
	for name := range s.counts {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		t.Logf("%4d x %s", s.counts[name], name)
	}
	t.Logf("%d faults; leader killed to next write: %s; fault undone to next write: %s", s.total, percentiles(s.failovers), percentiles(s.heals))
	for _, p := range append(append([]*member(nil), s.mesh.servers...), s.mesh.agents...) {
		if list := p.surprises(); len(list) > 0 {
			t.Logf("%s ended by itself: %s", p.name, strings.Join(list, "; "))
		}
	}
}
