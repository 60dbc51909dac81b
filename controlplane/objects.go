package controlplane

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tunemesh/tunemesh/controlplane/artifacts"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// How the object store is watched: how often, how long one question may take,
// and how soon it is asked again while it is away.
const (
	objectsInterval = 5 * time.Second
	objectsPatience = 3 * time.Second
	objectsAgain    = time.Second
	// objectsFirst is how long a start waits for the store to answer.
	objectsFirst = 8 * time.Second
)

// objectWatch knows whether the object store is there. A server works without
// it, but for what needs bytes: no stage is placed meanwhile.
type objectWatch struct{ reason atomic.Pointer[string] }

// why says why the store cannot be used; empty: it can.
func (w *objectWatch) why() string {
	if reason := w.reason.Load(); reason != nil {
		return *reason
	}
	return ""
}

func (w *objectWatch) set(reason string) { w.reason.Store(&reason) }

// hold is why the scheduler waits.
func (w *objectWatch) hold() string {
	if why := w.why(); why != "" {
		return "the object store cannot be used: " + why
	}
	return ""
}

// openObjects connects to the object store. One that does not answer yet is
// waited for in the background; one that says no ends the start.
func (s *Server) openObjects(ctx context.Context) error {
	target := s.config.S3
	if target.Endpoint == "" {
		var err error
		s.embedded, err = artifacts.StartEmbedded(ctx, artifacts.EmbeddedConfig{
			Dir: filepath.Join(s.config.Dir, "s3"), Command: s.config.S3Child, Log: s.config.Log.With("room", "artifacts"),
		})
		if err != nil {
			return err
		}
		s.onClose(s.embedded.Close)
		target = s.embedded.Config()
	}
	var err error
	if s.objects, err = artifacts.New(target); err != nil {
		return err
	}
	s.onClose(func() error { s.objects.Close(); return nil })
	first, cancel := context.WithTimeout(ctx, objectsFirst)
	defer cancel()
	err = s.objects.Prepare(first)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case artifacts.IsRefusal(err):
		return fmt.Errorf("controlplane: the object store at %s refuses: %w (check its keys, and that they may make and use the buckets)", target.Endpoint, err)
	case err != nil:
		s.store.set(err.Error())
		s.config.Log.Warn("the object store does not answer: this server starts without it, and jobs wait", "endpoint", target.Endpoint, "err", err)
	}
	life, end := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() { s.watchObjects(life, err == nil) })
	s.onClose(func() error { end(); watching.Wait(); return nil })
	return nil
}

// watchObjects keeps s.store true until life ends. prepared: the buckets are
// there.
func (s *Server) watchObjects(life context.Context, prepared bool) {
	misses := 0
	for {
		wait := objectsInterval
		if s.store.why() != "" || misses > 0 {
			wait = objectsAgain
		}
		select {
		case <-life.Done():
			return
		case <-time.After(wait):
		}
		err := s.askObjects(life, &prepared)
		switch {
		case life.Err() != nil:
			return
		case err == nil:
			misses = 0
			if s.store.why() != "" {
				s.store.set("")
				s.config.Log.Info("the object store is there")
			}
		default:
			// One miss is no outage: it may be a restart.
			if misses++; misses == 2 && s.store.why() == "" {
				s.config.Log.Warn("the object store does not answer: jobs wait", "err", err)
			}
			if misses > 1 {
				s.store.set(err.Error())
			}
		}
	}
}

func (s *Server) askObjects(ctx context.Context, prepared *bool) error {
	ctx, cancel := context.WithTimeout(ctx, objectsPatience)
	defer cancel()
	if *prepared {
		return s.objects.Ping(ctx)
	}
	err := s.objects.Prepare(ctx)
	*prepared = err == nil
	return err
}

// errObjectsAway: what needs the object store has to wait; the steward goes on
// trying.
var errObjectsAway = errors.New("controlplane: the object store is away")

// fill puts the base models into the mesh.
func (s *Server) fill(ctx context.Context) error {
	if s.store.why() != "" {
		return errObjectsAway
	}
	err := s.seedModels(ctx)
	var ours *bundleError
	if err == nil || errors.As(err, &ours) || artifacts.IsRefusal(err) || ctx.Err() != nil {
		return err
	}
	return fmt.Errorf("%w: %w", errObjectsAway, err)
}

// sweep removes, now and then, what was left by servers, agents and clients that
// were killed in an upload.
func (s *Server) sweep(term context.Context) {
	for {
		wait := s.config.SweepInterval
		err := s.objects.Sweep(term, s.config.SweepAge)
		if err == nil {
			_, err = s.objects.SweepUploads(term, s.config.SweepAge, s.mayRun)
		}
		if err == nil {
			err = s.tidyModels(term)
		}
		if err != nil && term.Err() == nil {
			s.config.Log.Warn("cannot sweep the object store", "err", err)
			wait = min(wait, time.Minute)
		}
		select {
		case <-term.Done():
			return
		case <-time.After(wait):
		}
	}
}

// mayRun says whether somebody may be at an attempt. One that this server has not
// heard of yet may have been placed by its successor.
func (s *Server) mayRun(fence uint64) bool {
	a, err := s.raft.Store().Attempt(fence)
	if errors.Is(err, state.ErrNotFound) {
		return fence > s.raft.Applied()
	}
	return err != nil || !a.State.Terminal()
}
