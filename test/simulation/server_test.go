package simulation

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/auth"
	"github.com/tunemesh/tunemesh/controlplane/consensus"
	"github.com/tunemesh/tunemesh/controlplane/dispatch"
	"github.com/tunemesh/tunemesh/controlplane/events"
	"github.com/tunemesh/tunemesh/controlplane/rest"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

const httpPort, raftPort = "7700", "7701"

// server is one server of the control plane, over all its lives. A life is put
// together as controlplane.Server does it, without TLS, gossip and the search for
// a cluster.
type server struct {
	mesh *mesh
	id   string
	host *host
	disk *disk

	mu    sync.Mutex
	skew  time.Duration // how far its clock is ahead in its next life
	dir   string        // of this life's snapshots
	lives int
	life  *serverLife // nil: it is down
	// starting: a life is about to begin.
	starting bool
	// ending are lives that were killed and are being cleared away.
	ending sync.WaitGroup
}

// serverLife is one process.
type serverLife struct {
	*server
	process  *process
	clock    func() time.Time
	raft     *consensus.Node
	dispatch *dispatch.Dispatcher
	rest     *rest.Server
	http     *http.Server
	stop     context.CancelFunc
	work     sync.WaitGroup
}

func (s *server) url() string { return "http://" + net.JoinHostPort(s.host.ip, httpPort) }

func (s *server) row() state.Server {
	return state.Server{ID: s.id, Name: s.id, RaftAddress: net.JoinHostPort(s.host.ip, raftPort), HTTPAddress: s.url(), Version: "simulated", Protocol: api.ProtocolVersion}
}

// raftLayer carries Raft's connections.
type raftLayer struct {
	*listener
	process *process
}

// Dial implements consensus.Layer.
func (l raftLayer) Dial(address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return l.process.dial(ctx, "tcp", address)
}

// setSkew makes its clock wrong from its next life on.
func (s *server) setSkew(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skew = d
}

// running is the server's life of the moment; nil: it is down.
func (s *server) running() *serverLife {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.life
}

// start begins a life on what the one before left on its disk.
func (s *server) start() error {
	m := s.mesh
	s.mu.Lock()
	dir, skew := s.dir, s.skew
	s.lives++
	s.mu.Unlock()
	l := &serverLife{server: s, process: s.host.boot()}
	l.clock = func() time.Time { return time.Now().Add(skew) }
	log := m.log.With("server", s.id)
	var founders []state.Server
	for _, f := range m.servers {
		founders = append(founders, f.row())
	}
	row := s.row()
	raftListener := l.process.listen(raftPort)
	var err error
	l.raft, err = consensus.Open(consensus.Config{
		ID: s.id, Dir: dir, Layer: raftLayer{raftListener, l.process}, Advertise: row.RaftAddress, HTTPAddress: row.HTTPAddress, Self: row,
		Founders: founders, OpenLog: s.disk.open, Log: log, MinFreeBytes: 1, MinFreePercent: 1e-9,
		SnapshotThreshold: 64, TrailingLogs: 32, SnapshotInterval: 10 * time.Second,
		Fatal: func(err error) { m.died(l, err) },
	})
	if err != nil {
		return errors.Join(err, raftListener.Close())
	}
	objects := objectsOf{l.process, m.stores}
	lines := eventsOf{process: l.process, log: m.stores.events, drops: m.plant.drops}
	l.dispatch = dispatch.New(dispatch.Config{
		Raft: m.plant.proposing(l.raft), Store: l.raft.Store(), Events: events.Projection{Log: lines}, Publisher: objects, Clock: l.clock, Log: log,
		Rand: m.shared("backoff").Float64,
	})
	l.rest, err = rest.New(rest.Config{
		Raft: m.plant.reading(l.raft), Store: l.raft.Store(), Dispatch: l.dispatch, Events: lines, Objects: objects,
		Dial: l.process.dial, Clock: l.clock, Log: log, Version: api.Version{Version: "simulated"},
	})
	if err != nil {
		return errors.Join(err, l.raft.Close())
	}
	ctx, cancel := context.WithCancel(context.Background())
	l.stop = cancel
	l.http = rest.NewHTTPServer(l.rest.Handler(), slog.New(slog.DiscardHandler))
	listener := l.process.listen(httpPort)
	l.work.Go(func() { _ = l.http.Serve(listener) })
	l.work.Go(func() {
		l.raft.WhileLeading(ctx, func(term context.Context) {
			for err := l.prepare(term); err != nil && term.Err() == nil; err = l.prepare(term) {
				log.Warn("not prepared yet", "err", err)
				sleep(term, 300*time.Millisecond)
			}
			_ = l.dispatch.Run(term)
		})
	})
	s.mu.Lock()
	s.life = l
	s.mu.Unlock()
	return nil
}

// prepare puts into the mesh what must be there before a job: addresses, the
// version, tokens.
func (l *serverLife) prepare(ctx context.Context) error {
	store := l.raft.Store()
	for _, f := range l.mesh.servers {
		if _, err := store.Server(f.id); err == nil {
			continue
		}
		if _, err := l.raft.Apply(ctx, state.UpsertServer{Server: f.row()}); err != nil {
			return err
		}
	}
	if store.MinVersion() < api.ProtocolVersion {
		if _, err := l.raft.Apply(ctx, state.SetMinVersion{Version: api.ProtocolVersion}); err != nil {
			return err
		}
	}
	for _, role := range []api.Role{api.RoleAdmin, api.RoleNode} {
		_, row := tokenOf(role)
		if _, err := store.Token(row.ID); err == nil {
			continue
		}
		if _, err := l.raft.Apply(ctx, state.CreateToken{Token: row}); err != nil {
			return err
		}
	}
	return nil
}

// tokenOf is a founder's token.
func tokenOf(role api.Role) (string, api.Token) {
	return auth.WithSecret(fmt.Sprintf("founder%s", role), "a-secret-for-"+string(role), string(role), role, time.Unix(0, 0))
}

// kill ends a life at once, as SIGKILL does, or with its machine. What it does
// from now on reaches nobody: neither the network nor its disk.
func (s *server) kill(machine bool) {
	s.mu.Lock()
	l, dir := s.life, s.dir
	s.life = nil
	next := fmt.Sprintf("%s-%d", filepath.Join(s.mesh.dir, s.id), s.lives)
	s.mu.Unlock()
	if l == nil {
		return
	}
	l.process.kill(machine)
	s.disk.crash()
	if err := copyTree(dir, next); err != nil {
		s.mesh.fail("the rig cannot copy the snapshots of %s: %v", s.id, err)
	}
	s.mu.Lock()
	s.dir = next
	s.mu.Unlock()
	s.ending.Go(func() {
		if err := l.close(); err != nil {
			s.mesh.log.Debug("a dead server was cleared away", "server", s.id, "err", err)
		}
	})
}

// close ends all goroutines of a life. Raft forgets, when it is shut down, who waits
// for what it had committed and not applied, and they wait for ever: so it is given
// time to answer them all first.
func (l *serverLife) close() error {
	l.stop()
	l.rest.Close()
	err := l.http.Close()
	l.work.Wait()
	time.Sleep(3 * time.Second)
	return errors.Join(err, l.raft.Close())
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
