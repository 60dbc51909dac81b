package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/transfer"
	"github.com/tunemesh/tunemesh/failpoint"
	"github.com/tunemesh/tunemesh/nodeagent/cache"
	"github.com/tunemesh/tunemesh/nodeagent/launcher"
)

// Agent is one node's agent. Run may be called once.
type Agent struct {
	cfg      Config
	cp       ControlPlane
	id       Identity
	cache    *cache.Cache
	transfer transfer.Client
	launcher launcher.Launcher
	lease    *lease
	sampler  sampler

	mu      sync.Mutex
	runners map[uint64]*runner
	// settled are attempts that are over: an answer that was on its way when
	// they were reported may still name them.
	settled map[uint64]bool
	running sync.WaitGroup // runners

	toUpload atomic.Int64 // bytes of files that are on their way
}

// New prepares an agent on its directory.
func New(cfg Config, cp ControlPlane) (*Agent, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"attempts", "jobs", "cache", "spools"} {
		if err := os.MkdirAll(filepath.Join(cfg.Dir, sub), 0o750); err != nil {
			return nil, fmt.Errorf("nodeagent: %w", err)
		}
	}
	id, err := LoadIdentity(cfg.Dir)
	if err != nil {
		return nil, err
	}
	if cfg.HTTP == nil {
		cfg.HTTP = &http.Client{Transport: &http.Transport{
			Proxy: http.ProxyFromEnvironment, MaxIdleConnsPerHost: 8, IdleConnTimeout: 60 * time.Second,
			TLSHandshakeTimeout: 10 * time.Second,
		}}
	}
	a := &Agent{cfg: cfg, cp: cp, id: id, launcher: cfg.Launcher, runners: map[uint64]*runner{}, settled: map[uint64]bool{}}
	a.transfer = transfer.Client{HTTP: cfg.HTTP, Stall: cfg.StallTimeout, Backoff: a.backoff}
	a.cache, err = cache.Open(filepath.Join(cfg.Dir, "cache"), cfg.CacheBytes, a.transfer)
	if err != nil {
		return nil, err
	}
	if a.launcher == nil {
		a.launcher = launcher.NewLocal(cfg.Executable)
	}
	a.cfg.Logger = cfg.Logger.With("node", id.NodeID)
	a.lease = newLease(time.Now)
	return a, nil
}

// NodeID is the node's id, derived from its key.
func (a *Agent) NodeID() string { return a.id.NodeID }

// farewell is how long reports may take after the stages have been stopped.
const farewell = 4 * time.Second

// Run does the agent's work until ctx ends: it keeps the lease, follows the
// assignments, and runs the attempts. It returns when nothing of it is left
// running in this process; the stages go on or are stopped as Config says.
func (a *Agent) Run(ctx context.Context) error {
	release, err := lockDir(a.cfg.Dir)
	if err != nil {
		return err
	}
	defer release()
	defer a.cfg.HTTP.CloseIdleConnections()
	// Runners outlive ctx by the farewell, so they have their own.
	work, detach := context.WithCancel(context.WithoutCancel(ctx))
	defer detach()
	if err := a.recover(work); err != nil {
		return err
	}
	loops, end := context.WithCancel(ctx)
	defer end()
	registered := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() { a.keepLease(loops, registered) })
	group.Go(func() { a.followAssignments(loops, work, registered) })
	group.Go(func() { a.watchLease(loops) })
	group.Go(func() { a.collectGarbage(loops) })
	group.Go(func() { a.keepSpools(loops) })
	group.Go(func() { a.sampler.run(loops, a.cfg.Dir, a.cfg.GPULoads) })
	<-ctx.Done()
	end()
	group.Wait()
	if a.cfg.StopStagesOnExit {
		a.stopAll(reasonShutdown)
		timer := time.AfterFunc(a.cfg.ExitGrace+farewell, detach)
		defer timer.Stop()
	} else {
		detach()
	}
	a.running.Wait()
	return nil
}

// recover takes up the attempts that an earlier agent left. Nothing is started
// here: what was not yet launched comes again with the assignments, if it is
// still wanted.
func (a *Agent) recover(work context.Context) error {
	a.clearBroken()
	entries, err := os.ReadDir(filepath.Join(a.cfg.Dir, "attempts"))
	if err != nil {
		return fmt.Errorf("nodeagent: recover: %w", err)
	}
	for _, e := range entries {
		fence, err := strconv.ParseUint(e.Name(), 10, 64)
		if err != nil {
			continue
		}
		p := a.attemptPaths(fence)
		log := a.cfg.Logger.With("fence", fence)
		rec, err := p.load()
		if err != nil { // the agent died before the first record, or the disk lost it
			log.Warn("attempt without a usable record is cleared away", "error", err)
			if h, err := a.launcher.Find(p.launch()); err == nil {
				_ = a.launcher.Kill(h)
			}
			_ = os.RemoveAll(p.root)
			continue
		}
		if rec.Phase == phasePrepare {
			h, err := a.launcher.Find(p.launch())
			if err != nil {
				log.Info("attempt had not been launched", "job", rec.Assignment.JobID, "stage", rec.Assignment.Stage.Name, "why", err)
				_ = os.RemoveAll(p.root)
				continue
			}
			_ = failpoint.At(failpoint.FoundUnrecorded)
			rec.Phase, rec.Handle, rec.LaunchedAt = phaseLaunched, &h, time.Now().UTC()
			if err := p.save(rec); err != nil {
				return err
			}
		}
		log.Info("attempt taken up again", "job", rec.Assignment.JobID, "stage", rec.Assignment.Stage.Name, "phase", rec.Phase)
		_ = failpoint.At(failpoint.AdoptedUnwatched)
		if err := a.begin(work, rec, nil); err != nil {
			return err
		}
	}
	return nil
}

// begin starts the runner of an attempt. links are those of the assignment,
// which the record does not keep.
func (a *Agent) begin(work context.Context, rec record, links *api.Assignment) error {
	r, err := newRunner(a, rec, links)
	if err != nil {
		return err
	}
	a.mu.Lock()
	a.runners[rec.Assignment.Fence] = r
	a.mu.Unlock()
	a.running.Go(func() {
		over := r.run(work)
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.runners, rec.Assignment.Fence)
		if over {
			a.settled[rec.Assignment.Fence] = true
		}
	})
	return nil
}

func (a *Agent) stopAll(why reason) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.runners {
		r.stop(why)
	}
}

// fences are the attempts that are here and not yet reported.
func (a *Agent) fences() []uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	out := make([]uint64, 0, len(a.runners))
	for f := range a.runners {
		out = append(out, f)
	}
	return out
}

// isStale says whether an answer means that an attempt has moved on. A fence
// that the control plane does not know will never be accepted either.
func isStale(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && (p.Type == api.ProblemStaleFence || p.Type == api.ProblemNotFound)
}

// isNotStored says that the object store lacks what was sent to it.
func isNotStored(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Type == api.ProblemNotStored
}

// isRefused says whether repeating a call unchanged is pointless.
func isRefused(err error) bool {
	var p *api.Problem
	if !errors.As(err, &p) {
		return false
	}
	switch p.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return true
	}
	return p.Type == api.ProblemInvalid
}

// sleep waits, or returns false when ctx ends first.
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

// backoff is the pause after the n-th failure in a row, n from 0.
func (a *Agent) backoff(n int) time.Duration {
	return min(a.cfg.RetryBase<<min(n, 10), a.cfg.RetryMax)
}
