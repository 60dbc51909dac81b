//go:build linux

package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tunemesh/tunemesh/test/invariant"
)

// fault is one way to break something. It returns when the damage is undone; a
// note says what was hit. ok is false where there was nothing to break.
type fault struct {
	name   string
	weight int
	do     func(s *storm, l *lane) (note string, ok bool)
}

// lane breaks one thing after another; lanes run side by side, so that faults
// of different kinds overlap while two servers are never down at once.
type lane struct {
	name   string
	rand   *rand.Rand
	faults []fault
	rest   time.Duration // between two faults, on average
	agent  *member       // of an agent's lane
}

func (l *lane) between(a, b time.Duration) time.Duration {
	return a + time.Duration(l.rand.Int64N(int64(b-a)))
}

// storm is a run of faults.
type storm struct {
	mesh *mesh
	work *workload
	// long are holds beyond the lease; they take time.
	long bool
	// probe is the node that untilWrite writes to.
	probe string

	mu        sync.Mutex
	counts    map[string]int
	total     int
	failovers []time.Duration // leader killed -> next write acknowledged
	heals     []time.Duration // fault undone -> next write acknowledged
	faults    []string        // violations
}

func newStorm(w *workload) *storm {
	return &storm{mesh: w.mesh, work: w, counts: map[string]int{}}
}

func (s *storm) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

func (s *storm) fail(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, fmt.Sprintf(format, args...))
}

// lanes are those of a mesh, each with its own stream of the seed.
func (s *storm) lanes(seed uint64) []*lane {
	stream := uint64(1)
	random := func() *rand.Rand { stream++; return rand.New(rand.NewPCG(seed, stream)) }
	out := []*lane{
		{name: "servers", rand: random(), faults: serverFaults(s.long), rest: 700 * time.Millisecond},
		{name: "stores", rand: random(), faults: storeFaults(), rest: 3 * time.Second},
		{name: "net", rand: random(), faults: netFaults(), rest: 2 * time.Second},
	}
	for _, a := range s.mesh.agents {
		out = append(out, &lane{name: a.name, rand: random(), faults: agentFaults(s.long), rest: 2 * time.Second, agent: a})
	}
	return out
}

// blow injects faults until ctx ends or the limit is reached.
func (s *storm) blow(ctx context.Context, lanes []*lane, limit int) {
	var running sync.WaitGroup
	for _, l := range lanes {
		running.Go(func() {
			for ctx.Err() == nil && s.count() < limit {
				f := choose(l)
				began := time.Now()
				note, ok := f.do(s, l)
				if ok {
					s.mu.Lock()
					s.counts[f.name]++
					s.total++
					s.mu.Unlock()
					s.mesh.say("%s fault %s %s (%s)", began.UTC().Format("15:04:05.000"), f.name, note, time.Since(began).Round(time.Millisecond))
					sleepFor(ctx, l.between(l.rest/2, l.rest*3/2))
				} else {
					sleepFor(ctx, 200*time.Millisecond)
				}
			}
		})
	}
	running.Wait()
}

func choose(l *lane) fault {
	sum := 0
	for _, f := range l.faults {
		sum += f.weight
	}
	n := l.rand.IntN(sum)
	for _, f := range l.faults {
		if n -= f.weight; n < 0 {
			return f
		}
	}
	panic("unreachable")
}

// leader finds the server that says it leads.
func (m *mesh) leader() *member {
	for range 100 {
		for _, s := range m.servers {
			if s.running() != 0 && m.leads(s) {
				return s
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return nil
}

func (m *mesh) leads(s *member) bool {
	a := m.ask(context.Background(), "", s.url, http.MethodGet, "/healthz", nil, time.Second)
	h, err := invariant.Decode[struct{ Leader bool }](a)
	return err == nil && h.Leader
}

func (m *mesh) serverNames(not ...*member) []string {
	var out []string
next:
	for _, s := range m.servers {
		for _, n := range not {
			if s == n {
				continue next
			}
		}
		out = append(out, s.name)
	}
	return out
}

func (l *lane) follower(m *mesh) *member {
	leader := m.leader()
	var others []*member
	for _, s := range m.servers {
		if s != leader {
			others = append(others, s)
		}
	}
	if leader == nil || len(others) == 0 {
		return nil
	}
	return others[l.rand.IntN(len(others))]
}

// untilWrite returns how long it takes until a write is acknowledged by any of
// the servers; it asks them all in turns, each for a second at most.
func (s *storm) untilWrite(limit time.Duration) (time.Duration, bool) {
	began := time.Now()
	answered := make(chan struct{}, 100)
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	var asking sync.WaitGroup
	defer asking.Wait()
	for _, server := range s.mesh.servers {
		asking.Go(func() {
			for ctx.Err() == nil {
				a := s.mesh.ask(ctx, s.work.token, server.url, http.MethodPost, "/v1/nodes/"+s.probe+"/drain", map[string]bool{"drain": true}, time.Second)
				if a.Err == nil {
					answered <- struct{}{}
					return
				}
				sleepFor(ctx, 10*time.Millisecond)
			}
		})
	}
	select {
	case <-answered:
		took := time.Since(began)
		cancel()
		return took, true
	case <-ctx.Done():
		return time.Since(began), false
	}
}

// healed waits until writes are acknowledged and all servers are ready again.
func (s *storm) healed(what string) {
	took, ok := s.untilWrite(60 * time.Second)
	s.mu.Lock()
	s.heals = append(s.heals, took)
	s.mu.Unlock()
	if !ok {
		s.fail("no write is acknowledged within 60 s after %s", what)
		return
	}
	for _, m := range s.mesh.servers {
		if err := s.mesh.awaitReady(60*time.Second, m); err != nil {
			s.fail("after %s: %v", what, err)
		}
	}
}

func serverFaults(long bool) []fault {
	hold := func(l *lane) time.Duration { return l.between(1500*time.Millisecond, 4*time.Second) }
	list := []fault{
		{"kill leader", 5, func(s *storm, l *lane) (string, bool) {
			m := s.mesh.leader()
			if m == nil {
				return "", false
			}
			m.kill(l.between(500*time.Millisecond, 3*time.Second))
			took, ok := s.untilWrite(60 * time.Second)
			s.mu.Lock()
			s.failovers = append(s.failovers, took)
			s.mu.Unlock()
			if !ok {
				s.fail("no write is acknowledged within 60 s after the leader was killed")
			}
			s.healed("a killed leader")
			return fmt.Sprintf("%s, next write after %s", m.name, took.Round(time.Millisecond)), true
		}},
		{"kill follower", 3, func(s *storm, l *lane) (string, bool) {
			m := l.follower(s.mesh)
			if m == nil {
				return "", false
			}
			m.kill(l.between(200*time.Millisecond, 2*time.Second))
			s.healed("a killed follower")
			return m.name, true
		}},
		{"stop leader", 2, func(s *storm, l *lane) (string, bool) { return s.freeze(s.mesh.leader(), hold(l)) }},
		{"stop follower", 1, func(s *storm, l *lane) (string, bool) { return s.freeze(l.follower(s.mesh), hold(l)) }},
		{"leader alone", 2, func(s *storm, l *lane) (string, bool) {
			m := s.mesh.leader()
			if m == nil {
				return "", false
			}
			// Clients still reach it: it must not acknowledge, nor read stale.
			s.mesh.fabric.between(l.name, []string{m.name}, s.mesh.serverNames(m), link{cut: true})
			return m.name, s.holdCut(l, hold(l), "the leader alone")
		}},
		{"leader alone, from all", 1, func(s *storm, l *lane) (string, bool) {
			m := s.mesh.leader()
			if m == nil {
				return "", false
			}
			s.mesh.fabric.between(l.name, []string{m.name}, s.mesh.fabric.others(m.name), link{cut: true})
			return m.name, s.holdCut(l, hold(l), "the leader cut off")
		}},
		{"follower alone", 1, func(s *storm, l *lane) (string, bool) {
			m := l.follower(s.mesh)
			if m == nil {
				return "", false
			}
			s.mesh.fabric.between(l.name, []string{m.name}, s.mesh.serverNames(m), link{cut: true})
			return m.name, s.holdCut(l, hold(l), "a follower alone")
		}},
		{"leader mute", 1, func(s *storm, l *lane) (string, bool) {
			m := s.mesh.leader()
			if m == nil {
				return "", false
			}
			s.mesh.fabric.impose(l.name, []string{m.name}, s.mesh.serverNames(m), link{cut: true})
			return m.name, s.holdCut(l, hold(l), "the leader mute")
		}},
		{"leader deaf", 1, func(s *storm, l *lane) (string, bool) {
			m := s.mesh.leader()
			if m == nil {
				return "", false
			}
			s.mesh.fabric.impose(l.name, s.mesh.serverNames(m), []string{m.name}, link{cut: true})
			return m.name, s.holdCut(l, hold(l), "the leader deaf")
		}},
		{"server's disk full", 1, func(s *storm, l *lane) (string, bool) {
			m := s.mesh.servers[len(s.mesh.servers)-1]
			ok := s.fill(m, l.between(2*time.Second, 5*time.Second))
			s.healed("a full disk")
			return m.name, ok
		}},
		{"slow fsync", 1, func(s *storm, l *lane) (string, bool) {
			m := s.mesh.leader()
			if m == nil || !s.mesh.shape.injected {
				return "", false
			}
			d := l.between(100*time.Millisecond, time.Second)
			s.inject(m, "fsync", d.String())
			time.Sleep(hold(l))
			s.inject(m, "fsync", "")
			s.healed("slow fsync")
			return m.name + " " + d.Round(time.Millisecond).String(), true
		}},
		{"clock jump", 1, func(s *storm, l *lane) (string, bool) {
			m := s.mesh.servers[l.rand.IntN(len(s.mesh.servers))]
			if !s.mesh.shape.injected {
				return "", false
			}
			d := l.between(-time.Hour, time.Hour).Round(time.Second)
			s.inject(m, "clock", d.String())
			m.kill(100 * time.Millisecond)
			s.healed("a clock jump")
			return m.name + " " + d.String(), true
		}},
		{"kill all servers", 1, func(s *storm, l *lane) (string, bool) {
			for _, m := range s.mesh.servers {
				m.kill(300 * time.Millisecond)
			}
			s.healed("all servers were killed")
			return "", true
		}},
	}
	if long {
		list = append(list, fault{"stop leader for longer than a lease", 1, func(s *storm, l *lane) (string, bool) {
			return s.freeze(s.mesh.leader(), 25*time.Second)
		}})
	}
	return list
}

// freeze stops a process for a time.
func (s *storm) freeze(m *member, d time.Duration) (string, bool) {
	if m == nil {
		return "", false
	}
	m.signal(syscall.SIGSTOP)
	time.Sleep(d)
	m.signal(syscall.SIGCONT)
	if strings.HasPrefix(m.name, "s") {
		s.healed("a frozen server")
	}
	return m.name, true
}

// holdCut keeps the lane's partition for a while and heals it.
func (s *storm) holdCut(l *lane, d time.Duration, what string) bool {
	time.Sleep(d)
	s.mesh.fabric.lift(l.name)
	s.healed(what)
	return true
}

// fill fills a member's disk for a time.
func (s *storm) fill(m *member, d time.Duration) bool {
	if !m.small {
		return false
	}
	path := filepath.Join(m.dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		return false
	}
	block := make([]byte, 64<<10)
	for {
		if _, err := f.Write(block); err != nil {
			if block = block[:len(block)/2]; len(block) == 0 {
				break
			}
		}
	}
	_ = f.Close()
	time.Sleep(d)
	_ = os.Remove(path)
	return true
}

// inject tells a server of the test build what to do wrong.
func (s *storm) inject(m *member, what, value string) {
	path := filepath.Join(s.mesh.dir, m.name+"."+what)
	if value == "" {
		_ = os.Remove(path)
		return
	}
	_ = os.WriteFile(path+".new", []byte(value), 0o644)
	_ = os.Rename(path+".new", path)
}

func storeFaults() []fault {
	return []fault{
		{"kill object store", 3, func(s *storm, l *lane) (string, bool) {
			s.mesh.store.kill(l.between(100*time.Millisecond, 3*time.Second))
			return "", true
		}},
		{"kill Redis", 3, func(s *storm, l *lane) (string, bool) {
			s.mesh.redis.kill(l.between(100*time.Millisecond, 3*time.Second))
			return "", true
		}},
		{"stop object store", 1, func(s *storm, l *lane) (string, bool) {
			s.mesh.store.signal(syscall.SIGSTOP)
			time.Sleep(l.between(time.Second, 4*time.Second))
			s.mesh.store.signal(syscall.SIGCONT)
			return "", true
		}},
		{"stop Redis", 1, func(s *storm, l *lane) (string, bool) {
			s.mesh.redis.signal(syscall.SIGSTOP)
			time.Sleep(l.between(time.Second, 4*time.Second))
			s.mesh.redis.signal(syscall.SIGCONT)
			return "", true
		}},
		{"stores cut off from a server", 1, func(s *storm, l *lane) (string, bool) {
			m := s.mesh.servers[l.rand.IntN(len(s.mesh.servers))]
			s.mesh.fabric.between(l.name, []string{m.name}, []string{"redis", "store"}, link{cut: true})
			time.Sleep(l.between(time.Second, 4*time.Second))
			s.mesh.fabric.lift(l.name)
			return m.name, true
		}},
	}
}

func netFaults() []fault {
	hold := func(l *lane) time.Duration { return l.between(2*time.Second, 6*time.Second) }
	return []fault{
		{"loss everywhere", 1, func(s *storm, l *lane) (string, bool) {
			loss := 0.1 + 0.2*l.rand.Float64()
			all := s.mesh.fabric.others("client")
			s.mesh.fabric.impose(l.name, all, all, link{loss: loss})
			time.Sleep(hold(l))
			s.mesh.fabric.lift(l.name)
			return fmt.Sprintf("%.0f%%", loss*100), true
		}},
		{"loss at one host", 2, func(s *storm, l *lane) (string, bool) {
			loss := 0.1 + 0.2*l.rand.Float64()
			host := s.anyHost(l)
			s.mesh.fabric.between(l.name, []string{host}, s.mesh.fabric.others(host), link{loss: loss})
			time.Sleep(hold(l))
			s.mesh.fabric.lift(l.name)
			return fmt.Sprintf("%s %.0f%%", host, loss*100), true
		}},
		{"delay", 2, func(s *storm, l *lane) (string, bool) {
			host := s.anyHost(l)
			s.mesh.fabric.between(l.name, []string{host}, s.mesh.fabric.others(host), link{delay: 50 * time.Millisecond, jitter: 25 * time.Millisecond})
			time.Sleep(hold(l))
			s.mesh.fabric.lift(l.name)
			return host + " 50±25 ms", true
		}},
	}
}

func (s *storm) anyHost(l *lane) string {
	hosts := s.mesh.fabric.others("client")
	sort.Strings(hosts)
	return hosts[l.rand.IntN(len(hosts))]
}

func agentFaults(long bool) []fault {
	list := []fault{
		{"kill agent", 4, func(s *storm, l *lane) (string, bool) {
			l.agent.kill(l.between(50*time.Millisecond, 2*time.Second))
			return l.agent.name, true
		}},
		{"kill trainer", 3, func(s *storm, l *lane) (string, bool) { return s.killOne(l, false) }},
		{"kill shim", 2, func(s *storm, l *lane) (string, bool) { return s.killOne(l, true) }},
		{"stop agent", 1, func(s *storm, l *lane) (string, bool) {
			return s.freeze(l.agent, l.between(time.Second, 5*time.Second))
		}},
		{"agent alone", 2, func(s *storm, l *lane) (string, bool) {
			s.mesh.fabric.between(l.name, []string{l.agent.name}, s.mesh.fabric.others(l.agent.name), link{cut: true})
			time.Sleep(l.between(time.Second, 6*time.Second))
			s.mesh.fabric.lift(l.name)
			return l.agent.name, true
		}},
		{"agent mute", 1, func(s *storm, l *lane) (string, bool) {
			s.mesh.fabric.impose(l.name, []string{l.agent.name}, s.mesh.fabric.others(l.agent.name), link{cut: true})
			time.Sleep(l.between(time.Second, 6*time.Second))
			s.mesh.fabric.lift(l.name)
			return l.agent.name, true
		}},
		{"agent deaf", 1, func(s *storm, l *lane) (string, bool) {
			s.mesh.fabric.impose(l.name, s.mesh.fabric.others(l.agent.name), []string{l.agent.name}, link{cut: true})
			time.Sleep(l.between(time.Second, 6*time.Second))
			s.mesh.fabric.lift(l.name)
			return l.agent.name, true
		}},
		{"agent's disk full", 1, func(s *storm, l *lane) (string, bool) {
			return l.agent.name, s.fill(l.agent, l.between(2*time.Second, 5*time.Second))
		}},
	}
	if long {
		list = append(list,
			fault{"stop agent for longer than a lease", 1, func(s *storm, l *lane) (string, bool) {
				return s.freeze(l.agent, l.between(25*time.Second, 35*time.Second))
			}},
			fault{"agent alone for longer than a lease", 1, func(s *storm, l *lane) (string, bool) {
				s.mesh.fabric.between(l.name, []string{l.agent.name}, s.mesh.fabric.others(l.agent.name), link{cut: true})
				time.Sleep(l.between(25*time.Second, 45*time.Second))
				s.mesh.fabric.lift(l.name)
				return l.agent.name, true
			}})
	}
	return list
}

// killOne kills a trainer or a shim of the lane's agent.
func (s *storm) killOne(l *lane, shim bool) (string, bool) {
	var pids []int
	for pid, text := range s.mesh.trainers() {
		if strings.HasPrefix(text, l.agent.name+":") && strings.Contains(text, " shim ") == shim {
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		return "", false
	}
	sort.Ints(pids)
	pid := pids[l.rand.IntN(len(pids))]
	_ = syscall.Kill(pid, syscall.SIGKILL)
	return fmt.Sprintf("%s pid %d", l.agent.name, pid), true
}
