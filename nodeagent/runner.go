package nodeagent

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/failpoint"
	"github.com/tunemesh/tunemesh/nodeagent/launcher"
	"github.com/tunemesh/tunemesh/tracing"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

// reason is why the agent stops an attempt.
type reason string

const (
	reasonCancelled    reason = "cancelled"    // it is no longer wanted here
	reasonStale        reason = "stale"        // its fence has moved on
	reasonTimeout      reason = "timeout"      // the stage's own limit
	reasonDisconnected reason = "disconnected" // the lease may have gone to another node
	reasonShutdown     reason = "shutdown"     // the agent ends and takes its stages along
)

// staleGrace is what a process gets whose results nobody wants: enough to leave
// a local checkpoint.
const staleGrace = 5 * time.Second

var errStale = errors.New("nodeagent: the attempt has moved on")

// runner drives one attempt through its phases. It is one goroutine, run, with
// helpers that end before it does.
type runner struct {
	a     *Agent
	as    api.Assignment
	links *api.Assignment // as assigned, with links; nil for one taken up again
	p     paths
	log   *slog.Logger
	ship  *shipped
	sent  *sentFiles

	// processEnded is closed when no process of the attempt runs any more.
	processEnded chan struct{}
	stopping     chan struct{} // closed by the first stop
	stale        chan struct{} // closed when nothing of it will be accepted

	mu    sync.Mutex
	rec   record
	lines uint64 // of output, once all are shipped
}

func newRunner(a *Agent, rec record, links *api.Assignment) (*runner, error) {
	p := a.attemptPaths(rec.Assignment.Fence)
	s, err := loadShipped(p.shipped())
	if err != nil {
		return nil, err
	}
	sent, err := loadSent(p.sent())
	if err != nil {
		return nil, err
	}
	as := rec.Assignment
	r := &runner{
		a: a, as: as, links: links, p: p, ship: s, sent: sent, rec: rec,
		log:          a.cfg.Logger.With("job", as.JobID, "stage", as.Stage.Name, "fence", as.Fence),
		processEnded: make(chan struct{}), stopping: make(chan struct{}), stale: make(chan struct{}),
	}
	if rec.Reason != "" {
		close(r.stopping)
	}
	return r, nil
}

// stop asks the attempt to end. The first reason counts, but that it is stale
// overrides all: then nothing is reported. Once the report is made there is
// nothing to stop: that an attempt is no longer wanted then is the answer to
// its report, come first by the other way. It does not block.
func (r *runner) stop(why reason) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.rec.Report != nil && why != reasonStale {
		return
	}
	first := r.rec.Reason == ""
	if first {
		r.rec.Reason = why
		close(r.stopping)
	}
	if why == reasonStale && !closed(r.stale) {
		r.rec.Reason = why
		close(r.stale)
	}
	if first || why == reasonStale {
		r.log.Info("attempt is stopped", "why", why)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

func (r *runner) reason() reason {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rec.Reason
}

// update changes the record and has it on disk before it returns.
func (r *runner) update(change func(*record)) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.rec)
	return r.p.save(r.rec)
}

func (r *runner) setLines(n uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = n
}

func (r *runner) snapshot() record {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.rec
}

// run returns when the attempt is over, or when work ends: then the attempt
// stays on disk, and its process alive, for the next agent.
func (r *runner) run(work context.Context) (over bool) {
	traced, span := tracing.Begin(tracing.Under(work, r.as.TraceParent), "attempt",
		"job", r.as.JobID, "stage", r.as.Stage.Name, "fence", strconv.FormatUint(r.as.Fence, 10), "node", r.a.id.NodeID)
	defer func() { span.End(r.fault()) }()
	work = traced
	// Calls for a stale attempt are broken off: nobody wants their answers.
	ctx, cancel := context.WithCancelCause(work)
	defer cancel(nil)
	watch := make(chan struct{})
	go func() {
		defer close(watch)
		select {
		case <-r.stale:
			cancel(errStale)
		case <-ctx.Done():
		}
	}()
	defer func() { cancel(nil); <-watch }()

	err := r.advance(ctx, work)
	if closed(r.stale) {
		r.log.Info("attempt moved on without this node; its files are cleared away")
		r.clear()
		return true
	}
	switch {
	case err == nil:
		r.clear()
		return true
	case work.Err() != nil:
		return false
	}
	// The agent's own disk or launcher fails: end what runs, and say so.
	r.log.Error("attempt cannot go on on this node", "error", err)
	r.mu.Lock()
	if h := r.rec.Handle; h != nil && r.rec.Exit == nil {
		_ = r.a.launcher.Kill(*h)
	}
	r.rec.Report = &api.AttemptReport{State: api.AttemptFailed, Error: asStageError(err)}
	r.mu.Unlock()
	if err := r.report(ctx, true); work.Err() != nil && err != nil {
		return false
	}
	r.clear()
	return true
}

// fault is why the attempt failed; nil if it did not, or has not yet.
func (r *runner) fault() error {
	rec := r.snapshot()
	if rec.Report == nil || rec.Report.Error == nil {
		return nil
	}
	return errors.New(rec.Report.Error.Message)
}

// advance takes the attempt from the phase it is in to its report. ctx ends
// when the attempt is stale, work when the agent does.
func (r *runner) advance(ctx, work context.Context) error {
	if r.snapshot().Phase == phasePrepare {
		if err := r.prepareAndLaunch(ctx); err != nil {
			close(r.processEnded)
			return err
		}
	}
	if p := r.snapshot().Phase; p == phaseLaunched || p == phaseExited {
		if err := r.supervise(ctx, work); err != nil {
			return err
		}
	} else {
		close(r.processEnded)
	}
	for again := 0; ; again++ {
		if r.snapshot().Phase != phaseUploaded {
			uploading, span := tracing.Begin(ctx, "upload")
			err := r.conclude(uploading)
			span.End(err)
			if err != nil {
				return err
			}
		}
		reporting, span := tracing.Begin(ctx, "report")
		err := r.report(reporting, again == refusals)
		span.End(err)
		if !isNotStored(err) {
			return err
		}
		if err := r.sendAgain(); err != nil {
			return err
		}
	}
}

// sendAgain undoes conclude: the object store lacks what was sent to it.
func (r *runner) sendAgain() error {
	r.log.Warn("the object store lacks files that were sent: they are sent again")
	if err := r.sent.forget(""); err != nil {
		return err
	}
	return r.update(func(rec *record) { rec.Phase, rec.Report = phaseExited, nil })
}

// prepareAndLaunch ends in phase launched, or in phase exited with a failure.
// An error is returned only if the agent itself cannot go on.
func (r *runner) prepareAndLaunch(ctx context.Context) error {
	prep, cancel := context.WithCancel(ctx)
	defer cancel()
	halt := make(chan struct{})
	go func() {
		defer close(halt)
		select {
		case <-r.stopping:
			cancel()
		case <-prep.Done():
		}
	}()
	fetching, span := tracing.Begin(prep, "prepare")
	spec, err := r.prepare(fetching, tracing.Parent(ctx))
	span.End(err)
	if err == nil {
		err = r.awaitPredecessors(prep)
	}
	if err == nil {
		err = failpoint.At(failpoint.AttemptUnlaunched)
	}
	if err == nil {
		var h launcher.Handle
		h, err = r.a.launcher.Start(prep, spec)
		if err == nil {
			cancel()
			<-halt
			_ = failpoint.At(failpoint.HandleUnrecorded)
			return r.update(func(rec *record) {
				rec.Phase, rec.Handle, rec.LaunchedAt = phaseLaunched, &h, time.Now().UTC()
			})
		}
		err = stageFault(contract.ClassResources, "LAUNCH_FAILED", "the stage could not be started on this node: %v", err)
	}
	cancel()
	<-halt
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	fault := asStageError(err)
	if closed(r.stopping) {
		fault = failure(contract.ClassInterrupted, "INTERRUPTED", "the stage was stopped before it was started")
	}
	r.log.Warn("attempt could not be prepared", "error", err)
	return r.update(func(rec *record) { rec.Phase, rec.Failure = phaseExited, fault })
}

// awaitPredecessors waits until no older attempt of the stage runs on this
// node: they would share the checkpoint folder.
func (r *runner) awaitPredecessors(ctx context.Context) error {
	r.a.mu.Lock()
	var older []*runner
	for fence, o := range r.a.runners {
		if fence < r.as.Fence && o.as.JobID == r.as.JobID && o.as.Stage.Name == r.as.Stage.Name {
			older = append(older, o)
		}
	}
	r.a.mu.Unlock()
	for _, o := range older {
		o.stop(reasonStale)
		select {
		case <-o.processEnded:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// supervise ships events and checkpoints while the process runs, and until all
// of them are there after it has ended.
func (r *runner) supervise(ctx, work context.Context) error {
	rec := r.snapshot()
	if rec.Failure != nil {
		close(r.processEnded)
		return nil // it never ran: there is nothing to ship
	}
	ended, noMore := make(chan struct{}), make(chan struct{})
	var shipping, copying sync.WaitGroup
	var shipErr error
	shipping.Go(func() { shipErr = r.shipEvents(ctx, ended) })
	shipping.Go(func() { r.reportRunning(ctx, ended) })
	copying.Go(func() { r.copyCheckpoints(ctx, noMore) })

	_, span := tracing.Begin(work, "process")
	waitErr := r.awaitExit(work)
	span.End(waitErr)
	if waitErr == nil {
		close(r.processEnded)
	}
	close(ended) // on an error, too: ctx has ended then, or the launcher is broken
	shipping.Wait()
	close(noMore)
	copying.Wait()
	if waitErr != nil {
		return waitErr
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return shipErr
}

// awaitExit waits for the process, stops it when it is told to, and writes down
// how it ended. It goes on when the attempt is stale, and ends with work.
func (r *runner) awaitExit(work context.Context) error {
	rec := r.snapshot()
	if rec.Exit != nil {
		return nil
	}
	var limit <-chan time.Time
	if d := r.as.Stage.TimeLimit(); d > 0 {
		timer := time.NewTimer(time.Until(rec.LaunchedAt.Add(d)))
		defer timer.Stop()
		limit = timer.C
	}
	type outcome struct {
		exit launcher.Exit
		err  error
	}
	waitCtx, cancel := context.WithCancel(work)
	defer cancel()
	done := make(chan outcome, 1)
	go func() {
		exit, err := r.a.launcher.Wait(waitCtx, *rec.Handle)
		done <- outcome{exit, err}
	}()
	stopping, stale := r.stopping, r.stale
	for {
		select {
		case o := <-done:
			if o.err != nil {
				return o.err
			}
			r.log.Info("process ended", "code", o.exit.Code, "signal", o.exit.Signal, "gone", o.exit.Gone)
			_ = failpoint.At(failpoint.EndUnrecorded)
			return r.update(func(rec *record) { rec.Phase, rec.Exit = phaseExited, &o.exit })
		case <-limit:
			r.stop(reasonTimeout)
		case <-stopping:
			stopping = nil
			r.halt(rec.Handle)
		case <-stale:
			stale = nil
			r.halt(rec.Handle)
		}
	}
}

func (r *runner) halt(h *launcher.Handle) {
	grace := r.a.cfg.StopGrace
	switch r.reason() {
	case reasonStale:
		grace = min(grace, staleGrace)
	case reasonShutdown:
		grace = min(grace, r.a.cfg.ExitGrace)
	}
	if err := r.a.launcher.Stop(*h, grace); err != nil {
		r.log.Error("process cannot be stopped", "error", err)
	}
}

// reportRunning tells that the stage has started, until that is heard or the
// stage has ended.
func (r *runner) reportRunning(ctx context.Context, ended <-chan struct{}) {
	for n := 0; ; n++ {
		err := r.a.cp.ReportAttempt(ctx, r.as.Fence, api.AttemptReport{State: api.AttemptRunning})
		if isStale(err) {
			r.stop(reasonStale)
		}
		if err == nil || isStale(err) || isRefused(err) {
			return
		}
		timer := time.NewTimer(r.a.backoff(n))
		select {
		case <-timer.C:
		case <-ended:
			timer.Stop()
			return
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// report tells how the attempt ended, until that is accepted or stale. An
// *api.Problem of the kind not-stored says that the object store lacks files,
// which may be sent again; with final, that is a failure like others.
func (r *runner) report(ctx context.Context, final bool) error {
	rep := *r.snapshot().Report
	lacks := 0
	_ = failpoint.At(failpoint.ReportUnsent)
	for n := 0; ; n++ {
		err := r.a.cp.ReportAttempt(ctx, r.as.Fence, rep)
		switch {
		case err == nil:
			r.log.Info("attempt reported", "state", rep.State)
			_ = failpoint.At(failpoint.ReportedUncleared)
			return nil
		case isStale(err):
			r.stop(reasonStale)
			return errStale
		case isNotStored(err) && !final:
			// Asked once more: a store may lag behind its own answers.
			if lacks++; lacks > 1 {
				return err
			}
		case isRefused(err):
			r.log.Error("the control plane refuses the report", "state", rep.State, "error", err)
			if rep.State == api.AttemptFailed && rep.Error.Code == "REPORT_REFUSED" {
				return nil // nothing simpler can be said; its lease will end
			}
			rep = api.AttemptReport{State: api.AttemptFailed, Error: failure(contract.ClassInternal, "REPORT_REFUSED", "the control plane refused the stage's report: %v", err)}
		default:
			r.log.Debug("report not accepted yet", "error", err)
		}
		if !sleep(ctx, r.a.backoff(n)) {
			return context.Cause(ctx)
		}
	}
}

// clear removes the attempt's files but its lines.
func (r *runner) clear() {
	if err := r.keepSpool(); err != nil {
		r.log.Warn("attempt's lines cannot be kept for the archive", "error", err)
	}
	_ = failpoint.At(failpoint.SpoolKeptUncleared)
	if err := os.RemoveAll(r.p.root); err != nil {
		r.log.Warn("attempt's files cannot be removed", "error", err)
	}
}
