package controlplane

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
	"github.com/tunemesh/tunemesh/controlplane/consensus"
	"github.com/tunemesh/tunemesh/controlplane/dispatch"
	"github.com/tunemesh/tunemesh/controlplane/events"
	"github.com/tunemesh/tunemesh/controlplane/events/archive"
	"github.com/tunemesh/tunemesh/controlplane/metrics"
	"github.com/tunemesh/tunemesh/controlplane/rest"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/mesh"
)

// Server is one server of the control plane.
type Server struct {
	config Config
	id     string
	// url, raftAddress and gossipAddress are those that others are told.
	url, raftAddress, gossipAddress string

	embedded *artifacts.Embedded // nil with a store of the user's own
	objects  *artifacts.Store
	store    objectWatch  // whether objects can be used
	events   events.Log   // where events are appended
	archive  *archive.Log // the same, and what is archived
	creds    *credentials
	peers    *peers
	cluster  *cluster
	founding *founding
	raft     *consensus.Node
	dispatch *dispatch.Dispatcher
	gossip   *mesh.Mesh
	metrics  *metrics.Metrics
	registry *prometheus.Registry
	rest     *rest.Server
	front    switched
	raftPort consensus.Layer
	// waiting says what this server waits for; stopServing ends the API.
	waiting     func(string)
	stopServing func() error
	// founders are those that this server founded its cluster with, at this start.
	founders []state.Server

	// prepared: this server leads and the mesh has what jobs need.
	prepared atomic.Bool
	// opened: raft is there to be asked.
	opened atomic.Bool
	// left: this server is no member any more.
	left  atomic.Bool
	close []func() error // what to end, in the order of opening
}

// Open starts a server and returns when it is a member of its cluster and the API
// answers, and, on a server that founds a mesh alone, when it is ready for jobs.
// Until ctx ends it waits for the other founders, or for a cluster to join.
func Open(ctx context.Context, c Config) (s *Server, err error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("controlplane: make the data folder: %w", err)
	}
	s = &Server{config: c}
	s.cluster = &cluster{s: s}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
			s = nil
		}
	}()
	// Listen first: a busy port is the most common fault, and cheap to find.
	listener, err := net.Listen("tcp", c.HTTPAddr)
	if err != nil {
		return s, fmt.Errorf("controlplane: listen for the API: %w (another mesh on this machine? choose another --http-addr)", err)
	}
	s.onClose(func() error { return ignoreClosed(listener.Close()) })
	if s.id, err = serverID(filepath.Join(c.Dir, "server.id")); err != nil {
		return s, err
	}
	hasState, err := consensus.HasState(filepath.Join(c.Dir, "raft"))
	if err != nil {
		return s, err
	}
	address, err := advertised(ctx, c.Advertise, listener.Addr().String(), c.Join)
	if err != nil {
		return s, err
	}
	if s.url = c.URL; s.url == "" {
		s.url = s.scheme() + "://" + address
	}
	if err := s.openPort(ctx, listener, address); err != nil {
		return s, err
	}
	if err := s.openStores(ctx); err != nil {
		return s, err
	}
	if err := s.openGossip(address); err != nil {
		return s, err
	}
	if err := s.writeTokens(); err != nil {
		return s, err
	}
	var founders []state.Server
	if !hasState && !c.Bootstrap {
		if founders, err = s.findCluster(ctx); err != nil {
			return s, err
		}
	}
	if err := s.openRaft(founders); err != nil {
		return s, err
	}
	s.keepEvents()
	if err := s.openRest(); err != nil {
		return s, err
	}
	if err := s.lead(ctx); err != nil {
		return s, err
	}
	return s, s.takePart(ctx, hasState || founders != nil || c.Bootstrap)
}

// founds says whether this server may found a mesh by itself.
func (s *Server) founds() bool { return s.config.Bootstrap }

func (s *Server) scheme() string {
	if s.config.PlainHTTP {
		return "http"
	}
	return "https"
}

func (s *Server) isPeer(secret string) bool {
	return s.creds.peer != "" && subtle.ConstantTimeCompare([]byte(secret), []byte(s.creds.peer)) == 1
}

// openPort finds this server's credentials and serves, at first only other
// servers that look for their cluster.
func (s *Server) openPort(ctx context.Context, listener net.Listener, address string) error {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("controlplane: %w", err)
	}
	hosts := []string{host}
	if h := hostOf(s.url); h != host {
		hosts = append(hosts, h)
	}
	if s.creds, err = s.openCredentials(ctx, hosts); err != nil {
		return err
	}
	var dialing *tls.Config
	serving := listener
	if s.creds.identity == nil {
		raft, err := net.Listen("tcp", s.config.RaftAddr)
		if err != nil {
			return fmt.Errorf("controlplane: listen for Raft: %w (choose another --raft-addr)", err)
		}
		s.onClose(func() error { return ignoreClosed(raft.Close()) })
		_, port, err := net.SplitHostPort(raft.Addr().String())
		if err != nil {
			return fmt.Errorf("controlplane: %w", err)
		}
		s.raftAddress, s.raftPort = net.JoinHostPort(host, port), plainLayer{raft}
	} else {
		port := newOnePort(listener, s.creds.identity, s.config.Log.With("room", "port"))
		s.onClose(func() error { err := port.Close(); port.wait(); return err })
		s.raftAddress, s.raftPort, serving = address, port.raft, port.http
		dialing = s.creds.identity.Dialing()
		life, cancel := context.WithCancel(context.Background())
		var renewing sync.WaitGroup
		renewing.Go(func() { s.renewCertificate(life, hosts) })
		s.onClose(func() error { cancel(); renewing.Wait(); return nil })
	}
	s.peers = newPeers(dialing, func() string { return s.creds.peer })
	s.onClose(func() error { s.peers.close(); return nil })
	if s.founding, err = openFounding(s.config.Dir, s.hello); err != nil {
		return err
	}
	var why atomic.Pointer[string]
	starting := "this server is starting"
	why.Store(&starting)
	s.waiting = func(text string) { why.Store(&text); s.config.Log.Info(text) }
	s.front.set(s.founding.waitingHandler(s.isPeer, func() string { return *why.Load() }))
	s.serve(serving)
	return nil
}

// serve answers requests until the server is closed.
func (s *Server) serve(listener net.Listener) {
	server := rest.NewHTTPServer(&s.front, s.config.Log.With("room", "rest"))
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := server.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) && !errors.Is(err, net.ErrClosed) {
			s.config.Fatal(fmt.Errorf("controlplane: serve the API: %w", err))
		}
	})
	s.stopServing = sync.OnceValue(func() error {
		defer serving.Wait()
		if s.rest != nil {
			s.rest.Close()
		}
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := server.Shutdown(ctx); err != nil {
			return server.Close() // somebody holds on; let go
		}
		return nil
	})
	s.onClose(s.stopServing)
}

// hello is what this server says of itself before it has a cluster.
func (s *Server) hello() api.ServerHello {
	h := api.ServerHello{Server: s.self(), Expect: s.config.Expect}
	if s.opened.Load() {
		h.HasState, h.Applied = true, s.raft.Applied()
	}
	return h
}

// findCluster returns the founders of a new cluster, this server among them, or
// none where there is a cluster to join.
func (s *Server) findCluster(ctx context.Context) ([]state.Server, error) {
	set, err := s.founding.seek(ctx, s.config.Join, s.peers, s.waiting)
	if err != nil || set == nil {
		return nil, err
	}
	var founders []state.Server
	for _, f := range set {
		founders = append(founders, state.Server{ID: f.ID, Name: f.Name, RaftAddress: f.RaftAddress, HTTPAddress: f.URL, GossipAddress: f.GossipAddress, Version: f.Version, Protocol: f.Protocol})
	}
	s.founders = founders
	s.config.Log.Info("founding a cluster", "servers", len(founders))
	return founders, nil
}

// takePart returns when this server is a member. One that was a member before
// does not wait: its cluster may need it to get on its feet.
func (s *Server) takePart(ctx context.Context, member bool) error {
	if !member {
		s.waiting("waiting to be taken into the cluster")
		if err := s.announce(ctx, false); err != nil {
			return fmt.Errorf("controlplane: join the cluster: %w", err)
		}
		s.config.Log.Info("this server has joined", "name", s.config.Name, "server", s.id)
		return nil
	}
	life, cancel := context.WithCancel(context.Background())
	var telling sync.WaitGroup
	telling.Go(func() {
		if err := s.announce(life, true); err != nil && life.Err() == nil {
			s.config.Fatal(err)
		}
	})
	s.onClose(func() error { cancel(); telling.Wait(); return nil })
	return nil
}

// plainLayer carries Raft without TLS.
type plainLayer struct{ net.Listener }

// Dial implements consensus.Layer.
func (plainLayer) Dial(address string, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", address, timeout)
}

// openStores opens what holds bytes: the event log and the object store.
func (s *Server) openStores(ctx context.Context) error {
	err := s.openEvents(ctx)
	if err != nil {
		return err
	}
	if err := s.openObjects(ctx); err != nil {
		return err
	}
	return s.openArchive()
}

func (s *Server) openRaft(founders []state.Server) error {
	self := s.self()
	var err error
	s.raft, err = consensus.Open(consensus.Config{
		ID: s.id, Dir: filepath.Join(s.config.Dir, "raft"),
		Layer: s.raftPort, Advertise: s.raftAddress, HTTPAddress: s.url,
		Self:      state.Server{Name: self.Name, GossipAddress: self.GossipAddress, Version: self.Version, Protocol: self.Protocol},
		Bootstrap: s.config.Bootstrap, Founders: founders,
		HeartbeatTimeout: s.config.ElectionTimeout,
		Log:              s.config.Log, Fatal: s.config.Fatal,
	})
	if err != nil {
		return err
	}
	s.opened.Store(true)
	s.onClose(s.raft.Close)
	if err := s.openMetrics(); err != nil {
		return err
	}
	s.dispatch = dispatch.New(dispatch.Config{
		Raft: s.raft, Store: s.raft.Store(), Events: events.Projection{Log: s.archive}, Publisher: s.objects, Clock: clock(), Archiver: archiver{s}, Observer: s.metrics, Hold: s.store.hold,
		Log: s.config.Log.With("room", "dispatch"),
	})
	return nil
}

func (s *Server) openRest() (err error) {
	config := rest.Config{
		Raft: s.raft, Store: s.raft.Store(), Snapshots: s.raft, Clock: clock(), Dispatch: s.dispatch, Events: s.archive, Objects: s.objects, Cluster: s.cluster,
		Registry: s.registry, Prepared: s.prepared.Load, DefaultModel: s.config.DefaultModel, Version: s.config.Version, Gossip: s.gossipPeers,
		PublicMetrics: s.config.PublicMetrics || onLoopback(s.config.HTTPAddr),
		Log:           s.config.Log.With("room", "rest"),
	}
	if s.creds.identity != nil {
		config.PeerTLS = s.creds.identity.Dialing()
	}
	if s.rest, err = rest.New(config); err != nil {
		return err
	}
	s.front.set(s.rest.Handler())
	s.onClose(s.stopServing) // before what requests need is closed
	return nil
}

// lead starts the work that only a leader does, now and whenever this server
// becomes one. The founder of a mesh waits until it is ready.
func (s *Server) lead(ctx context.Context) error {
	life, cancel := context.WithCancel(context.Background())
	ready := make(chan error, 1)
	var leading sync.WaitGroup
	leading.Go(func() {
		s.raft.WhileLeading(life, func(term context.Context) {
			s.prepared.Store(false)
			err := s.prepareMesh(term)
			s.prepared.Store(err == nil)
			if errors.Is(err, errObjectsAway) {
				s.config.Log.Warn("the base models wait", "err", err)
				err = nil
			}
			select {
			case ready <- err:
			default:
			}
			if err != nil {
				s.config.Log.Error("cannot prepare the mesh", "err", err)
			}
			leading.Go(func() { s.sweep(term) })
			leading.Go(func() { s.cluster.steward(term) })
			if err := s.dispatch.Run(term); err != nil && term.Err() == nil {
				s.config.Log.Error("dispatch ended", "err", err)
			}
		})
	})
	s.onClose(func() error { cancel(); leading.Wait(); return nil })
	if !s.config.Bootstrap || len(s.raft.Members()) > 1 {
		return nil
	}
	select {
	case err := <-ready:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(60 * time.Second):
		return errors.New("controlplane: this server does not get to lead its mesh: does another address stand in its Raft log? Start it with the --raft-addr (or --http-addr) it had before")
	}
}

// prepareMesh puts into the mesh what must be there before a job: the founders'
// addresses and tokens, the keyring and the base models.
func (s *Server) prepareMesh(ctx context.Context) error {
	for _, f := range s.founders {
		if _, err := s.raft.Store().Server(f.ID); err == nil {
			continue
		}
		if _, err := s.raft.Apply(ctx, state.UpsertServer{Server: f}); err != nil {
			return err
		}
	}
	if err := s.cluster.raiseVersion(ctx); err != nil {
		return err
	}
	if err := s.ensureTokens(ctx); err != nil {
		return err
	}
	if err := s.recordKeyring(ctx); err != nil {
		return err
	}
	return s.fill(ctx)
}

// URL is the base URL of this server's API.
func (s *Server) URL() string { return s.url }

func (s *Server) onClose(f func() error) { s.close = append(s.close, f) }

// Close ends everything in the reverse order of its start.
func (s *Server) Close() error {
	var errs []error
	for i := len(s.close) - 1; i >= 0; i-- {
		errs = append(errs, s.close[i]())
	}
	s.close = nil
	if s.left.Load() {
		errs = append(errs, s.putAside())
	}
	return errors.Join(errs...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// putAside moves what belongs to the cluster that this server left out of the way.
func (s *Server) putAside() error {
	var errs []error
	for _, name := range []string{"raft", "server.id", "founding.json", "peer.secret", "server.pem"} {
		from := filepath.Join(s.config.Dir, name)
		if err := os.Rename(from, from+".left-"+s.id); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, fmt.Errorf("controlplane: %w", err))
		}
	}
	return errors.Join(errs...)
}
