package simulation

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"testing/synctest"
	"time"

	"github.com/tunemesh/tunemesh/controlplane/consensus"
)

// nemesis breaks things as planned and makes them whole again.
type nemesis struct {
	mesh  *mesh
	begin time.Time
	// done counts by kind.
	done map[string]int
}

// blow carries out the plan's faults and returns when all are undone.
func (x *nemesis) blow() {
	type step struct {
		at    time.Duration
		fault int
		undo  bool
	}
	var steps []step
	for i, f := range x.mesh.plan.faults {
		steps = append(steps, step{f.at, i, false}, step{f.at + f.holds, i, true})
	}
	slices.SortStableFunc(steps, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	undo := make([]func(), len(x.mesh.plan.faults))
	for _, s := range steps {
		time.Sleep(time.Until(x.begin.Add(s.at)))
		// Not in the middle of what happens at this moment: all that takes no time is
		// done, and folders can be copied.
		synctest.Wait()
		f := x.mesh.plan.faults[s.fault]
		if !s.undo {
			undo[s.fault] = x.do(f)
			x.mesh.log.Info("FAULT", "what", f.String(), "hit", undo[s.fault] != nil)
			if undo[s.fault] != nil {
				x.done[f.kind]++
			}
		} else if undo[s.fault] != nil {
			x.mesh.log.Info("UNDO", "what", f.String())
			undo[s.fault]()
			x.mesh.compare()
		}
	}
	x.heal()
}

// heal makes whole whatever is not.
func (x *nemesis) heal() {
	m := x.mesh
	m.net.heal()
	for _, s := range m.servers {
		s.disk.heal()
		s.setSkew(0)
		if s.running() == nil {
			s.ending.Go(func() { m.startServer(s) })
		}
	}
	for _, a := range m.agents {
		a.mu.Lock()
		down := a.life == nil
		a.mu.Unlock()
		if down {
			a.start()
		}
	}
	m.log.Info("HEALED")
}

// do breaks something and returns what makes it whole; nil where there was
// nothing to break.
func (x *nemesis) do(f fault) (undo func()) {
	m := x.mesh
	switch f.kind {
	case killServer, loseServer, wrongClock:
		return x.kill(m.servers[f.target], f)
	case killLeader:
		if l := m.leader(); l != nil {
			return x.kill(l, f)
		}
		return nil
	case killAll:
		var undos []func()
		for _, s := range m.servers {
			if u := x.kill(s, f); u != nil {
				undos = append(undos, u)
			}
		}
		return func() {
			for _, u := range undos {
				u()
			}
		}
	case handOver:
		return x.handOver()
	case slowDisk:
		d := m.servers[f.target].disk
		d.setSlow(50*time.Millisecond + time.Duration(f.amount*float64(1500*time.Millisecond)))
		return d.heal
	case hangingDisk:
		d := m.servers[f.target].disk
		d.hang()
		return d.heal
	case killAgent, rebootAgent:
		a := m.agents[f.target]
		a.mu.Lock()
		up := a.life != nil
		a.mu.Unlock()
		if !up {
			return nil
		}
		a.kill(f.kind == rebootAgent)
		return a.start
	}
	return x.net(f)
}

// kill kills a server and starts it again.
func (x *nemesis) kill(s *server, f fault) (undo func()) {
	if s.running() == nil {
		return nil
	}
	s.kill(f.kind == loseServer)
	if f.kind == wrongClock {
		s.setSkew(time.Duration((2*f.amount - 1) * float64(time.Hour)))
	}
	return func() { s.ending.Go(func() { x.mesh.startServer(s) }) }
}

func (x *nemesis) handOver() (undo func()) {
	s := x.mesh.leader()
	if s == nil {
		return nil
	}
	l := s.running()
	s.ending.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := l.raft.TransferLeadership(ctx, ""); err != nil && !errors.Is(err, consensus.ErrNotLeader) {
			x.mesh.log.Debug("no hand-over", "err", err)
		}
	})
	return func() {}
}

// net breaks links.
func (x *nemesis) net(f fault) (undo func()) {
	m := x.mesh
	everybody := m.hostNames()
	var servers []string
	for _, s := range m.servers {
		servers = append(servers, s.host.name)
	}
	agent := func() []string { return []string{m.agents[f.target].host.name} }
	server := func() []string { return []string{m.servers[f.target].host.name} }
	switch f.kind {
	case cutLeader:
		l := m.leader()
		if l == nil {
			return nil
		}
		return m.cut([]string{l.host.name}, servers, true)
	case cutServers:
		return m.cut(server(), servers, true)
	case cutOneWay:
		return m.cut(server(), servers, false)
	case deafServer:
		return m.cut(servers, server(), false)
	case cutHost:
		return m.cut(server(), everybody, true)
	case cutStore:
		return m.cut(server(), []string{storeHost}, true)
	case cutAgent, zombieAgent:
		return m.cut(agent(), everybody, true)
	case muteAgent:
		return m.cut(agent(), everybody, false)
	case deafAgent:
		return m.cut(everybody, agent(), false)
	case cutAgentStore:
		return m.cut(agent(), []string{storeHost}, true)
	case resetConns:
		m.net.reset(servers[f.target], servers[f.other])
		return func() {}
	case lossEverybody:
		return m.disturb(everybody, func(l *link) { l.loss += 0.05 + 0.25*f.amount }, func(l *link) { l.loss = max(0, l.loss-0.05-0.25*f.amount) })
	case lossServer:
		return m.disturb(server(), func(l *link) { l.loss += 0.1 + 0.4*f.amount }, func(l *link) { l.loss = max(0, l.loss-0.1-0.4*f.amount) })
	case delay:
		late := 50*time.Millisecond + time.Duration(f.amount*float64(400*time.Millisecond))
		return m.disturb(everybody, func(l *link) { l.jitter += late }, func(l *link) { l.jitter = max(time.Millisecond, l.jitter-late) })
	}
	return nil
}

func (m *mesh) hostNames() []string {
	var out []string
	m.net.mu.Lock()
	defer m.net.mu.Unlock()
	for _, h := range m.net.hosts {
		out = append(out, h.name)
	}
	slices.Sort(out)
	return out
}

// cut cuts links, in one direction or both.
func (m *mesh) cut(from, to []string, both bool) (undo func()) {
	change := func(n int) {
		m.net.eachLink(from, to, func(l *link) { l.cuts = max(0, l.cuts+n) })
		if both {
			m.net.eachLink(to, from, func(l *link) { l.cuts = max(0, l.cuts+n) })
		}
	}
	change(1)
	return func() { change(-1) }
}

func (m *mesh) disturb(hosts []string, do, undo func(*link)) func() {
	all := m.hostNames()
	both := func(change func(*link)) {
		m.net.eachLink(hosts, all, change)
		if len(hosts) < len(all) {
			m.net.eachLink(all, hosts, change)
		}
	}
	both(do)
	return func() { both(undo) }
}
