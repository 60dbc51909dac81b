//go:build linux

package chaos

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// Two workstations that nobody can open a connection to: at home, behind a router
// that translates addresses, and in an office, whose firewall lets out HTTPS to
// the servers and the store alone, so that gossip never hears of it. Both are full
// members. TUNEMESH_CHAOS_NAT_S is for how many seconds their status is watched at
// least.
func TestAnAgentBehindNATIsAFullMember(t *testing.T) {
	needsMesh(t)
	t.Parallel() // it waits
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs the program nft (nftables)")
	}
	hold := time.Duration(envInt("TUNEMESH_CHAOS_NAT_S", 30)) * time.Second
	m := start(t, shape{servers: 3})
	if err := errors.Join(m.behindNAT("office", "a1", httpPort, s3Port), m.behindNAT("home", "a2")); err != nil {
		t.Fatal(err)
	}
	leader := m.leader()
	if leader == nil {
		t.Fatal("nobody leads")
	}
	office, home := m.joinByPaste(t, "a1", leader), m.joinByPaste(t, "a2", leader)
	watch := m.watchNodes(t, "a1", "a2")
	joined := time.Now()

	m.cannotBeDialled(t, "office", "a1")
	m.cannotBeDialled(t, "home", "a2")
	m.unknownToGossip(t, office)
	t.Logf("by gossip: %v", m.gossip(t))

	// A stage runs at each, its lines are read while it does, and the leader that
	// both are connected to is killed.
	w := newWorkload(m, 1)
	w.prepare(t)
	var running []*planned
	for i, a := range m.agents {
		p := w.longJob(t, fmt.Sprintf("01NAT%021d", i), 200, a.name)
		w.follow(w.life, p)
		running = append(running, p)
	}
	for _, p := range running {
		w.readsOn(t, p, 20)
	}
	leader = m.leaderOf(t, office)
	t.Logf("connections: office %v, home %v", m.dialled(t, office), m.dialled(t, home))
	leader.kill(2500 * time.Millisecond)
	killed := time.Now()
	for _, p := range running {
		w.readsOn(t, p, 20)
	}
	t.Logf("20 more lines of each %s after SIGKILL of %s", time.Since(killed).Round(time.Millisecond), leader.name)
	if err := m.awaitReady(60*time.Second, m.servers...); err != nil {
		t.Fatal(err)
	}
	if open := w.settle(2 * time.Minute); len(open) > 0 {
		t.Fatal(open)
	}
	m.unknownToGossip(t, office)

	// Cancel comes to both at once, not with a later heartbeat.
	for i, a := range m.agents {
		running[i] = w.longJob(t, fmt.Sprintf("01NATCANCE1%015d", i), 1200, a.name)
		w.follow(w.life, running[i])
	}
	m.runningPIDs(t, 4)
	for _, p := range running {
		w.cancelJob(t.Context(), 0, p, m.leader().url)
	}
	asked := time.Now()
	if err := m.eventually(10*time.Second, func() error {
		if left := m.trainers(); len(left) > 0 {
			return fmt.Errorf("there run %v", left)
		}
		return nil
	}); err != nil {
		t.Errorf("10 s after the cancel: %v", err)
	}
	t.Logf("no process is left %s after the cancel", time.Since(asked).Round(time.Millisecond))

	time.Sleep(time.Until(joined.Add(hold)))
	m.unknownToGossip(t, office)
	watch.end(t)
	if rep := w.checked(t, ""); rep.succeeded != 2 || rep.cancelled != 2 || rep.attempts != 4 || rep.objects != 2 {
		t.Errorf("%s: want two successes with an artifact each and two cancelled, of one attempt each", rep)
	}
}

// The router between an agent and the mesh is switched off and on and has forgotten
// all connections, so that both ends wait for answers that never come. The node is
// not taken for lost, its lines come on, it begins what is placed on it, and it hears
// of a cancel.
func TestARouterThatForgetsCostsNoNodeBehindNAT(t *testing.T) {
	needsMesh(t)
	t.Parallel() // it waits
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs the program nft (nftables)")
	}
	m := start(t, shape{servers: 1})
	if err := m.behindNAT("home", "a1"); err != nil {
		t.Fatal(err)
	}
	a := m.joinByPaste(t, "a1", m.servers[0])
	watch := m.watchNodes(t, a.name)
	w := newWorkload(m, 1)
	w.prepare(t)
	lines := func(id string) *planned {
		p := w.longJob(t, id, 3000, a.name)
		w.follow(w.life, p)
		return p
	}
	old := lines("01F0RGET010000000000000000")
	w.readsOn(t, old, 20)
	if err := m.forget("home"); err != nil {
		t.Fatal(err)
	}
	forgot := time.Now()
	since := func() time.Duration { return time.Since(forgot).Round(time.Second / 10) }
	fresh := lines("01F0RGET020000000000000000")
	w.readsOn(t, fresh, 20)
	t.Logf("lines of what was placed after the router forgot come %s after it", since())
	if since() > 45*time.Second {
		t.Errorf("a node that is alive began a stage %s after its placement, want 45 s at most", since())
	}
	w.readsOn(t, old, 20)
	t.Logf("lines of what ran before come on %s after it", since())
	if err := m.forget("home"); err != nil {
		t.Fatal(err)
	}
	forgot = time.Now()
	for _, p := range []*planned{old, fresh} {
		w.cancelJob(t.Context(), 0, p, m.servers[0].url)
	}
	if err := m.eventually(time.Minute, func() error {
		if left := m.trainers(); len(left) > 0 {
			return fmt.Errorf("there run %v", left)
		}
		return nil
	}); err != nil {
		t.Errorf("a minute after the cancel: %v", err)
	}
	t.Logf("no process is left %s after the router forgot again and both were cancelled", since())
	watch.end(t)
	if rep := w.checked(t, ""); rep.cancelled != 2 || rep.attempts != 2 {
		t.Errorf("%s: want two cancelled jobs of one attempt each", rep)
	}
}

// joinByPaste starts an agent with the line that `token create` prints, and
// returns when the mesh says that it is alive. What is added to the line tells the
// agents of one machine apart, and jobs one from the other.
func (m *mesh) joinByPaste(t *testing.T, name string, at *member) *member {
	t.Helper()
	line, err := m.cli("token", "create", "--role", "node", "--uses", "1", "--ttl", "1h", "--server", at.url)
	if err != nil {
		t.Fatal(err)
	}
	pasted := strings.Fields(line)
	if len(pasted) < 2 || pasted[0] != "tunemesh" || pasted[1] != "nodeagent" {
		t.Fatalf("the line to paste is %q", line)
	}
	a := &member{dir: filepath.Join(m.dir, name)}
	if err := os.MkdirAll(a.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	a.process = m.process(name, name, append(append([]string{m.binary}, pasted[1:]...), "--data-dir", a.dir, "--name", name, "--label", "host="+name)...)
	a.env = m.shape.env
	if err := a.start(); err != nil {
		t.Fatal(err)
	}
	m.agents = append(m.agents, a)
	if err := m.eventually(60*time.Second, func() error {
		list, err := m.cli("node", "list")
		for row := range strings.Lines(list) {
			if strings.Contains(row, name) && strings.Contains(row, string(api.NodeAlive)) {
				return nil
			}
		}
		return errors.Join(err, fmt.Errorf("nodes are\n%s", list))
	}); err != nil {
		t.Fatalf("%s does not join: %v", name, err)
	}
	return a
}

// cannotBeDialled: a port that answers the router answers nobody else, neither
// under the router's address nor, for one who knows the way, under its own.
func (m *mesh) cannotBeDialled(t *testing.T, router, inside string) {
	t.Helper()
	r, h := m.hosts[router], m.hosts[inside]
	if err := command("ip", "-n", m.hosts["client"].name, "route", "add", h.ip, "via", r.ip); err != nil {
		t.Fatal(err)
	}
	ports, err := h.listening()
	if err != nil || len(ports) == 0 {
		t.Fatalf("%s listens at %v: %v", inside, ports, err)
	}
	dial := func(from *namespace, address string) error {
		return from.do(func() error {
			c, err := net.DialTimeout("tcp", address, 2*time.Second)
			if err == nil {
				_ = c.Close()
			}
			return err
		})
	}
	var all sync.WaitGroup
	for _, port := range ports {
		if err := dial(r, net.JoinHostPort(h.ip, port)); err != nil {
			t.Errorf("the router's own dial: %v", err)
		}
		for _, from := range []string{"client", "s1", "s2", "s3"} {
			for _, ip := range []string{r.ip, h.ip} {
				all.Go(func() {
					if dial(m.hosts[from], net.JoinHostPort(ip, port)) == nil {
						t.Errorf("%s can dial %s at %s:%s", from, inside, ip, port)
					}
				})
			}
		}
	}
	all.Wait()
	t.Logf("%s listens at %v, behind %s, where nobody reaches it", inside, ports, router)
}

// unknownToGossip: no server sees the agent, nor it a server.
func (m *mesh) unknownToGossip(t *testing.T, a *member) {
	t.Helper()
	for who, sees := range m.gossip(t) {
		switch {
		case who == a.name && sees != "0 servers, 1 agents":
			t.Errorf("%s sees %s by gossip", who, sees)
		case strings.HasPrefix(who, "s") && slices.Contains(strings.Fields(sees), a.name):
			t.Errorf("%s sees %s by gossip, which then has a way through its firewall: %s", who, a.name, sees)
		}
	}
}

// readsOn waits until a reader has got more lines of a job that still runs.
func (w *workload) readsOn(t *testing.T, p *planned, more int) {
	t.Helper()
	r := w.readers[p.id+"/1"]
	have := len(r.Seen().Events)
	if err := w.mesh.eventually(60*time.Second, func() error {
		seen := r.Seen()
		if seen.Ended {
			t.Fatalf("job %s has ended with %d events: it was to be read while it ran", p.id, len(seen.Events))
		}
		if n := len(seen.Events); n < have+more {
			return fmt.Errorf("%d events, had %d", n, have)
		}
		return nil
	}); err != nil {
		t.Fatalf("lines of %s: %v", p.id, err)
	}
}

// dialled are the names and ports of those that an agent has connections to, one
// for each connection.
func (m *mesh) dialled(t *testing.T, a *member) (out []string) {
	t.Helper()
	remote, err := a.host.dialled()
	if err != nil {
		t.Fatal(err)
	}
	for _, address := range remote {
		ip, port, _ := net.SplitHostPort(address)
		for name, host := range m.hosts {
			if host.ip == ip {
				out = append(out, net.JoinHostPort(name, port))
			}
		}
	}
	return out
}

// leaderOf makes the server that an agent is connected to the leader.
func (m *mesh) leaderOf(t *testing.T, a *member) *member {
	t.Helper()
	var leader *member
	if err := m.eventually(30*time.Second, func() error {
		to := m.dialled(t, a)
		leader = m.leader()
		if leader != nil && slices.Contains(to, net.JoinHostPort(leader.name, httpPort)) {
			return nil
		}
		for _, s := range m.servers {
			if slices.Contains(to, net.JoinHostPort(s.name, httpPort)) {
				return errors.Join(fmt.Errorf("%s does not lead", s.name), m.client().TransferLeadership(t.Context(), s.name))
			}
		}
		return fmt.Errorf("%s is connected to %v", a.name, to)
	}); err != nil {
		t.Fatal(err)
	}
	return leader
}

// nodeWatch asks again and again for the status of nodes.
type nodeWatch struct {
	stop    context.CancelFunc
	ended   chan struct{}
	began   time.Time
	answers int
	changes map[string][]string // of each node, with when
	last    map[string]api.NodeStatus
	lost    []string
}

func (m *mesh) watchNodes(t *testing.T, names ...string) *nodeWatch {
	ctx, stop := context.WithCancel(t.Context())
	w := &nodeWatch{stop: stop, ended: make(chan struct{}), began: time.Now(), changes: map[string][]string{}, last: map[string]api.NodeStatus{}}
	t.Cleanup(func() { stop(); <-w.ended })
	c := m.client()
	go func() {
		defer close(w.ended)
		for sleepFor(ctx, 250*time.Millisecond) {
			nodes, err := c.Nodes(ctx)
			if err != nil {
				continue // while nobody leads
			}
			w.answers++
			for _, name := range names {
				i := slices.IndexFunc(nodes, func(n api.Node) bool { return n.Name == name })
				status := api.NodeStatus("missing")
				if i >= 0 {
					status = nodes[i].Status
				}
				w.take(name, status)
			}
		}
	}()
	return w
}

func (w *nodeWatch) take(name string, s api.NodeStatus) {
	if s == w.last[name] {
		return
	}
	w.last[name] = s
	change := fmt.Sprintf("%s %s", time.Since(w.began).Round(time.Second/10), s)
	w.changes[name] = append(w.changes[name], change)
	// A new leader has not seen a node before its next heartbeat: that is no loss.
	if s != api.NodeAlive && s != api.NodeUnseen {
		w.lost = append(w.lost, name+" "+change)
	}
}

// end judges: no node was ever taken for lost, and all are alive now.
func (w *nodeWatch) end(t *testing.T) {
	t.Helper()
	w.stop()
	<-w.ended
	t.Logf("status in %d answers of %s: %v", w.answers, time.Since(w.began).Round(time.Second), w.changes)
	for _, l := range w.lost {
		t.Errorf("a node that works was taken for lost: %s", l)
	}
	for name, s := range w.last {
		if s != api.NodeAlive {
			t.Errorf("%s is %s at the end", name, s)
		}
	}
	if w.answers < 20 {
		t.Errorf("only %d answers were got", w.answers)
	}
}
