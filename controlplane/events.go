package controlplane

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
	"github.com/tunemesh/tunemesh/controlplane/events/archive"
	"github.com/tunemesh/tunemesh/controlplane/events/redis"
)

// EventsConfig says how long events stay where they are appended. None of it
// bounds what is archived.
type EventsConfig struct {
	// KeepBytes and KeepFor bound one job's stream by size and age while the job
	// runs: the oldest events go, and readers get an event in their place that
	// says so. 0 keeps all until the job is archived.
	KeepBytes int64
	KeepFor   time.Duration
	// KeepArchived is how long an ended job's events stay beside their archive;
	// 0 means an hour.
	KeepArchived time.Duration
}

func (c EventsConfig) keepArchived() time.Duration {
	if c.KeepArchived == 0 {
		return time.Hour
	}
	return c.KeepArchived
}

// recorded are the archived parts of a job, as far as this server knows.
func (s *Server) recorded(job string) []api.EventArchive {
	if s.raft == nil {
		return nil
	}
	return s.raft.Store().EventArchives(job)
}

// openEvents opens the log that events are appended to.
func (s *Server) openEvents(ctx context.Context) (err error) {
	c, logger := s.config.Events, s.config.Log.With("room", "events")
	base := func(job string) events.Base { return events.BaseOf(s.recorded(job)) }
	if s.config.RedisURL != "" {
		s.events, err = redis.Open(ctx, redis.Config{URL: s.config.RedisURL, KeepBytes: c.KeepBytes, KeepFor: c.KeepFor, Base: base, Log: logger})
	} else {
		s.events, err = events.OpenDisk(events.DiskConfig{
			Dir: filepath.Join(s.config.Dir, "events"), KeepBytes: c.KeepBytes, KeepFor: c.KeepFor, Base: base, Log: logger})
	}
	if err != nil {
		return err
	}
	s.onClose(s.events.Close)
	return nil
}

// openArchive puts the archive in the object store over the log.
func (s *Server) openArchive() error {
	dir := filepath.Join(s.config.Dir, "tmp")
	err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o700))
	if err == nil {
		s.archive, err = archive.New(archive.Config{Log: s.events, Objects: s.objects, Parts: s.recorded, Dir: dir})
	}
	if err != nil {
		return err
	}
	s.onClose(s.archive.Close)
	return nil
}

// keepEvents starts this server's retention.
func (s *Server) keepEvents() {
	disk, ok := s.events.(*events.Disk)
	if !ok {
		return // Redis forgets by itself
	}
	life, cancel := context.WithCancel(context.Background())
	var sweeping sync.WaitGroup
	sweeping.Go(func() { s.sweepEvents(life, disk) })
	s.onClose(func() error { cancel(); sweeping.Wait(); return nil })
}

// sweepEvents removes, on every server, what is archived: also what this server
// was told while it led.
func (s *Server) sweepEvents(ctx context.Context, disk *events.Disk) {
	idle := s.config.Events.keepArchived()
	tick := time.NewTicker(min(max(idle/4, time.Second), time.Hour))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		n, err := disk.Sweep(ctx, idle)
		if err != nil && ctx.Err() == nil {
			s.config.Log.Warn("archived events cannot be removed from the disk", "err", err)
		}
		if n > 0 {
			s.config.Log.Info("archived events are removed from the disk", "jobs", n)
		}
	}
}

// archiver is the archive as the leader's loop uses it.
type archiver struct{ s *Server }

func (a archiver) Archive(ctx context.Context, job string, recorded []api.EventArchive, transitions uint64, lines map[uint64]uint64, anyway bool) (*api.EventArchive, string, error) {
	return a.s.archive.Archive(ctx, job, recorded, archive.Want{Transitions: transitions, Lines: lines, Anyway: anyway})
}

// Finish lets Redis forget the job; the disk's log is swept by itself.
func (a archiver) Finish(ctx context.Context, job string) error {
	if log, ok := a.s.events.(*redis.Log); ok {
		return log.Finish(ctx, job, a.s.config.Events.keepArchived())
	}
	return nil
}
