package dispatch

import (
	"context"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/controlplane/state"
)

// term is one period of leading: six loops and what they remember.
type term struct {
	config  Config
	store   *state.Store
	started time.Time

	// poke wakes the placement and the lease loop for what is in no watch.
	placePoke, leasePoke chan struct{}
	archivePoke          chan struct{}
	reports              chan *pendingReport
	// over is closed when the term ends, for those who wait in Report.
	over chan struct{}

	mu      sync.Mutex
	leases  map[string]*lease
	reasons map[stageKey]string
	// backoffs are those of the stages that wait for their next try.
	backoffs map[stageKey]backoff
	// late are jobs whose archive is not all of their events, and since when.
	late map[string]time.Time
}

type stageKey struct{ job, stage string }

func newTerm(c Config) *term {
	t := &term{
		config: c, store: c.Store, started: c.Clock(),
		placePoke: make(chan struct{}, 1), leasePoke: make(chan struct{}, 1),
		reports: make(chan *pendingReport), over: make(chan struct{}),
		leases: map[string]*lease{}, reasons: map[stageKey]string{},
		archivePoke: make(chan struct{}, 1), late: map[string]time.Time{},
	}
	nodes := c.Store.Nodes()
	_, ttl := pace(c, len(nodes))
	for _, n := range nodes {
		t.leases[n.ID] = &lease{expires: t.started.Add(max(c.NewLeaderGrace, 2*ttl))}
	}
	return t
}

// run returns after ctx has ended and all loops with it.
func (t *term) run(ctx context.Context) error {
	var loops sync.WaitGroup
	defer loops.Wait()
	defer close(t.over)
	loops.Go(func() { t.placeLoop(ctx) })
	loops.Go(func() { t.leaseLoop(ctx) })
	loops.Go(func() { t.reportLoop(ctx) })
	if t.config.Events != nil {
		loops.Go(func() { t.projectLoop(ctx) })
	}
	if t.config.Events != nil && t.config.Archiver != nil {
		loops.Go(func() { t.archiveLoop(ctx) })
	}
	if t.config.Publisher != nil {
		loops.Go(func() { t.publishLoop(ctx) })
	}
	<-ctx.Done()
	return ctx.Err()
}

// poke wakes a loop; a loop that was poked already wakes once.
func poke(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// sleep waits for a change in w, a poke or the time at (zero: never), but
// first for the pause that keeps a loop from running all the time. It says
// whether the term goes on.
func (t *term) sleep(ctx context.Context, w state.Watch, poked <-chan struct{}, at time.Time, pause time.Duration) bool {
	if pause > 0 {
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
	var due <-chan time.Time
	if !at.IsZero() {
		timer := time.NewTimer(max(at.Sub(t.config.Clock()), 0))
		defer timer.Stop()
		due = timer.C
	}
	watching, cancel := context.WithCancel(ctx)
	changed := w.Chan(watching)
	// The watch's goroutine must be gone before the next one starts.
	defer func() {
		cancel()
		<-changed
	}()
	select {
	case <-changed:
		// Put back what the deferred wait takes.
		c := make(chan error, 1)
		c <- nil
		changed = c
	case <-poked:
	case <-due:
	case <-ctx.Done():
	}
	return ctx.Err() == nil
}
