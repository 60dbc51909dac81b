package simulation

import (
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/controlplane/consensus"
)

// mesh is everything that is simulated, in one bubble.
type mesh struct {
	plan    plan
	plant   plant
	dir     string
	log     *slog.Logger
	net     *network
	stores  *stores
	servers []*server
	agents  []*agent

	mu     sync.Mutex
	faults []string          // violations
	hashes map[uint64]string // of states, by index
}

// newMesh starts servers and agents. The folder is on a disk, if possible one of
// memory: agents and the event log write real files.
func newMesh(p plan, broken plant, dir string, log *slog.Logger) (*mesh, error) {
	m := &mesh{plan: p, plant: broken, dir: dir, log: log, net: newNetwork(p.seed), hashes: map[uint64]string{}}
	var err error
	if m.stores, err = newStores(m.net, dir+"/events"); err != nil {
		return nil, err
	}
	for i := range p.servers {
		s := &server{mesh: m, id: fmt.Sprintf("s%d", i+1), host: m.net.host(fmt.Sprintf("s%d", i+1), fmt.Sprintf("10.0.1.%d", i+1)), disk: newDisk(p.seed, uint64(i))}
		s.dir = fmt.Sprintf("%s/%s", dir, s.id)
		s.disk.forgets = broken.forgottenEntries
		m.servers = append(m.servers, s)
	}
	for _, s := range m.servers {
		if err := os.MkdirAll(s.dir, 0o700); err != nil {
			return m, err
		}
		if err := s.start(); err != nil {
			return m, err
		}
	}
	for i := range p.agents {
		a, err := newAgent(m, i+1)
		if err != nil {
			return m, err
		}
		m.agents = append(m.agents, a)
		a.start()
	}
	return m, nil
}

// close ends everything in this bubble.
func (m *mesh) close() error {
	var ending sync.WaitGroup
	for _, a := range m.agents {
		ending.Go(a.close)
	}
	ending.Wait()
	for _, s := range m.servers {
		s.disk.heal()
		ending.Go(func() {
			s.mu.Lock()
			l := s.life
			s.life = nil
			s.mu.Unlock()
			if l != nil {
				if err := l.close(); err != nil {
					m.fail("close %s: %v", s.id, err)
				}
			}
			s.ending.Wait()
		})
	}
	ending.Wait()
	return m.stores.close()
}

func (m *mesh) urls() []string {
	var out []string
	for _, s := range m.servers {
		out = append(out, s.url())
	}
	return out
}

// leader is the server that surely leads, if one does: of those that believe so
// the one with the highest term.
func (m *mesh) leader() *server {
	var best *server
	var term uint64
	for _, s := range m.servers {
		if l := s.running(); l != nil && l.raft.IsLeader() {
			if t := l.raft.Stats().Term; t > term {
				best, term = s, t
			}
		}
	}
	return best
}

func (m *mesh) fail(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults = append(m.faults, fmt.Sprintf(format, args...))
}

// died is a server that found that it must stop: its disk hangs. The service
// manager starts it again.
func (m *mesh) died(l *serverLife, why error) {
	s := l.server
	if s.running() != l || l.process.isDead() {
		return
	}
	m.log.Warn("a server ended itself", "server", s.id, "err", why)
	if !errors.Is(why, consensus.ErrStalled) {
		m.fail("%s ended itself: %v", s.id, why)
	}
	s.kill(false)
	s.ending.Go(func() {
		time.Sleep(2 * time.Second)
		m.startServer(s)
	})
}

// startServer starts a server that is down.
func (m *mesh) startServer(s *server) {
	s.mu.Lock()
	idle := s.life == nil && !s.starting
	s.starting = s.starting || idle
	s.mu.Unlock()
	if !idle {
		return
	}
	if err := s.start(); err != nil {
		m.fail("%s does not start: %v", s.id, err)
	}
	s.mu.Lock()
	s.starting = false
	s.mu.Unlock()
}

// shared is a source of random numbers for several goroutines.
type shared struct {
	mu sync.Mutex
	r  *rand.Rand
}

// shared returns the stream of the seed with a name.
func (m *mesh) shared(name string) *shared {
	var stream uint64 = 7
	for _, c := range name {
		stream = stream*131 + uint64(c)
	}
	return &shared{r: rand.New(rand.NewPCG(m.plan.seed, stream))}
}

func (s *shared) Uint64() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.r.Uint64()
}

// Float64 returns a number from [0, 1).
func (s *shared) Float64() float64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.r.Float64()
}

// IntN returns a number from [0, n).
func (s *shared) IntN(n int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.r.IntN(n)
}

func (s *shared) upTo(d time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.Duration(s.r.Int64N(int64(d)))
}
