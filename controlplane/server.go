package controlplane

import (
	"context"
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

	"github.com/tunemesh/tunemesh/controlplane/artifacts"
	"github.com/tunemesh/tunemesh/controlplane/consensus"
	"github.com/tunemesh/tunemesh/controlplane/dispatch"
	"github.com/tunemesh/tunemesh/controlplane/events"
	"github.com/tunemesh/tunemesh/controlplane/events/archive"
	"github.com/tunemesh/tunemesh/controlplane/metrics"
	"github.com/tunemesh/tunemesh/controlplane/rest"
	"github.com/tunemesh/tunemesh/mesh"
)

// Server is one server of the control plane.
type Server struct {
	config Config
	url    string

	embedded *artifacts.Embedded // nil with a store of the user's own
	objects  *artifacts.Store
	events   events.Log   // where events are appended
	archive  *archive.Log // the same, and what is archived
	raft     *consensus.Node
	dispatch *dispatch.Dispatcher
	gossip   *mesh.Mesh
	rest     *rest.Server
	http     *http.Server
	metrics  *metrics.Metrics
	registry *prometheus.Registry

	// prepared: this server leads and the mesh has what jobs need.
	prepared atomic.Bool

	close []func() error // what to end, in the order of opening
}

// Open starts a server and returns when the API answers and, on the server that
// founds a mesh, when it is ready for jobs.
func Open(ctx context.Context, c Config) (s *Server, err error) {
	c = c.withDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("controlplane: make the data folder: %w", err)
	}
	s = &Server{config: c}
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
	if s.url = c.URL; s.url == "" {
		s.url = "http://" + listener.Addr().String()
	}

	if err := s.openStores(ctx); err != nil {
		return s, err
	}
	if err := s.openRaft(); err != nil {
		return s, err
	}
	s.keepEvents()
	if err := s.openGossip(); err != nil {
		return s, err
	}
	if err := s.openRest(listener); err != nil {
		return s, err
	}
	if err := s.lead(ctx); err != nil {
		return s, err
	}
	return s, nil
}

// openStores opens what holds bytes: the event log and the object store.
func (s *Server) openStores(ctx context.Context) error {
	err := s.openEvents(ctx)
	if err != nil {
		return err
	}
	target := s.config.S3
	if target.Endpoint == "" {
		s.embedded, err = artifacts.StartEmbedded(ctx, artifacts.EmbeddedConfig{
			Dir: filepath.Join(s.config.Dir, "s3"), Command: s.config.S3Child, Log: s.config.Log.With("room", "artifacts"),
		})
		if err != nil {
			return err
		}
		s.onClose(s.embedded.Close)
		target = s.embedded.Config()
	}
	if s.objects, err = artifacts.Open(ctx, target); err != nil {
		return err
	}
	s.onClose(func() error { s.objects.Close(); return nil })
	return s.openArchive()
}

func (s *Server) openRaft() error {
	id, err := serverID(filepath.Join(s.config.Dir, "server.id"))
	if err != nil {
		return err
	}
	s.raft, err = consensus.Open(consensus.Config{
		ID: id, Dir: filepath.Join(s.config.Dir, "raft"),
		Bind: s.config.RaftAddr, HTTPAddress: s.url, Bootstrap: s.config.Bootstrap,
		HeartbeatTimeout: s.config.ElectionTimeout,
		Log:              s.config.Log, Fatal: s.config.Fatal,
	})
	if err != nil {
		return err
	}
	s.onClose(s.raft.Close)
	if err := s.openMetrics(); err != nil {
		return err
	}
	s.dispatch = dispatch.New(dispatch.Config{
		Raft: s.raft, Store: s.raft.Store(), Events: events.Projection{Log: s.archive}, Publisher: s.objects, Archiver: archiver{s}, Observer: s.metrics,
		Log: s.config.Log.With("room", "dispatch"),
	})
	return nil
}

func (s *Server) openRest(listener net.Listener) (err error) {
	s.rest, err = rest.New(rest.Config{
		Raft: s.raft, Store: s.raft.Store(), Dispatch: s.dispatch, Events: s.archive, Objects: s.objects,
		Registry: s.registry, Prepared: s.prepared.Load, DefaultModel: s.config.DefaultModel, Version: s.config.Version, Gossip: s.gossipPeers,
		Log: s.config.Log.With("room", "rest"),
	})
	if err != nil {
		return err
	}
	s.http = s.rest.HTTPServer()
	var serving sync.WaitGroup
	serving.Go(func() {
		if err := s.http.Serve(listener); err != nil && !errors.Is(err, http.ErrServerClosed) {
			s.config.Fatal(fmt.Errorf("controlplane: serve the API: %w", err))
		}
	})
	s.onClose(func() error {
		defer serving.Wait()
		s.rest.Close()
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.http.Shutdown(ctx); err != nil {
			return s.http.Close() // somebody holds on; let go
		}
		return nil
	})
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
			select {
			case ready <- err:
			default:
			}
			if err != nil {
				s.config.Log.Error("cannot prepare the mesh", "err", err)
			}
			leading.Go(func() { s.sweep(term) })
			if err := s.dispatch.Run(term); err != nil && term.Err() == nil {
				s.config.Log.Error("dispatch ended", "err", err)
			}
		})
	})
	s.onClose(func() error { cancel(); leading.Wait(); return nil })
	if !s.config.Bootstrap {
		return nil
	}
	select {
	case err := <-ready:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(60 * time.Second):
		return errors.New("controlplane: this server does not get to lead its mesh: does another address stand in its Raft log? Start it with the --raft-addr it had before")
	}
}

// prepareMesh puts into the mesh what must be there before a job: the founder's
// tokens and the base models.
func (s *Server) prepareMesh(ctx context.Context) error {
	if err := s.ensureTokens(ctx); err != nil {
		return err
	}
	return s.seedModels(ctx)
}

// sweep removes, now and then, what servers left that were killed in an upload.
func (s *Server) sweep(term context.Context) {
	tick := time.NewTicker(time.Hour)
	defer tick.Stop()
	for {
		if err := s.objects.Sweep(term, 24*time.Hour); err != nil && term.Err() == nil {
			s.config.Log.Warn("cannot sweep the object store", "err", err)
		}
		select {
		case <-term.Done():
			return
		case <-tick.C:
		}
	}
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
	return errors.Join(errs...)
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
