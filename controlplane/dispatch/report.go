package dispatch

import (
	"context"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/failpoint"
)

const (
	// A batch of reports is one entry: 64 of them in 16 KiB made 188,000 reports
	// a second where single ones made 26,000 (measured). One is under way at a
	// time, so where an entry takes 0.3 s of a busy mesh, 64 would be 200 reports a
	// second.
	maxBatch      = 1024
	maxBatchBytes = 160 << 10
	// A dead letter keeps the attempt's last events, within reason.
	lastEvents     = 50
	lastEventBytes = 48 << 10
)

type pendingReport struct {
	report state.Report
	size   int
	answer chan error // buffered
}

// report prepares a report, has it batched, and waits for the state's answer.
func (t *term) report(ctx context.Context, fence uint64, r api.AttemptReport) error {
	p := &pendingReport{report: t.prepare(ctx, fence, r), answer: make(chan error, 1)}
	data, err := json.Marshal(p.report)
	if err != nil {
		return &state.Error{Sentinel: state.ErrInvalid, Message: fmt.Sprintf("the report cannot be recorded: %v", err)}
	}
	p.size = len(data)
	select {
	case t.reports <- p:
	case <-t.over:
		return ErrNotLeading
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-p.answer:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// prepare adds what the state machine may not work out by itself: the time, the
// jittered backoff, and the events for a dead letter.
func (t *term) prepare(ctx context.Context, fence uint64, r api.AttemptReport) state.Report {
	now := t.config.Clock().UTC()
	p := state.Report{Fence: fence, Report: r, At: now, Keep: r.State == api.AttemptFailed && len(r.Artifacts) > 0}
	if r.State != api.AttemptFailed && r.State != api.AttemptCancelled {
		return p
	}
	view := t.store.At()
	a, err := view.Attempt(fence)
	if err != nil || a.State.Terminal() {
		return p
	}
	stage, err := view.Stage(a.JobID, a.Stage)
	if err != nil {
		return p
	}
	interruptions := view.Interruptions(a.JobID, a.Stage)
	var final bool
	if r.State == api.AttemptCancelled || r.Error != nil && r.Error.Class == "interrupted" {
		p.RetryAt = now.Add(t.interruptedDelay(interruptions))
		final = interruptions+1 >= state.MaxInterruptions
	} else {
		p.RetryAt = now.Add(t.backoff(stage.Tries))
		final = r.Error != nil && !r.Error.Retryable || stage.Tries+1 >= stage.MaxAttempts
	}
	if final && t.config.Events != nil {
		events, err := t.config.Events.Last(ctx, a.JobID, fence, lastEvents)
		if err != nil {
			t.config.Log.Warn("the dead letter will have no events", "job", a.JobID, "stage", a.Stage, "fence", fence, "err", err)
		}
		p.LastEvents = newestWithin(events, lastEventBytes)
	}
	return p
}

// newestWithin returns the newest events that take at most size bytes.
func newestWithin(events []api.Event, size int) []api.Event {
	for i := len(events) - 1; i >= 0; i-- {
		data, err := json.Marshal(events[i])
		if size -= len(data) + 1; err != nil || size < 0 {
			return events[i+1:]
		}
	}
	return events
}

// backoff is exponential with full jitter: a random part of base * 2^failures,
// at most the cap, so that those who failed together do not come back together
// (Brooker, "Exponential Backoff And Jitter", AWS 2015).
func (t *term) backoff(failures int) time.Duration {
	most := math.Min(float64(t.config.BackoffBase)*math.Exp2(float64(failures)), float64(t.config.BackoffCap))
	return time.Duration(t.config.Rand() * most)
}

// interruptedDelay is none the first time: a machine that was restarted goes on
// at once.
func (t *term) interruptedDelay(interruptions int) time.Duration {
	if interruptions == 0 {
		return 0
	}
	return t.backoff(interruptions - 1)
}

// reportLoop puts reports that come together into one entry. While one is being
// committed the next batch gathers.
func (t *term) reportLoop(ctx context.Context) {
	for {
		var batch []*pendingReport
		size := 0
		select {
		case p := <-t.reports:
			batch, size = append(batch, p), p.size
		case <-ctx.Done():
			return
		}
		var over *pendingReport
		for gathering := true; gathering && len(batch) < maxBatch; {
			select {
			case p := <-t.reports:
				if size += p.size; size > maxBatchBytes {
					over, gathering = p, false
				} else {
					batch = append(batch, p)
				}
			default:
				gathering = false
			}
		}
		t.propose(ctx, batch)
		if over != nil {
			t.propose(ctx, []*pendingReport{over})
		}
	}
}

func (t *term) propose(ctx context.Context, batch []*pendingReport) {
	c := state.ReportAttempts{}
	for _, p := range batch {
		c.Reports = append(c.Reports, p.report)
	}
	err := failpoint.At(failpoint.ReportUnlogged)
	var result state.Result
	if err == nil {
		result, err = t.config.Raft.Apply(ctx, c)
	}
	if err == nil {
		err = failpoint.At(failpoint.ReportUnanswered)
	}
	for i, p := range batch {
		switch {
		case err != nil:
			p.answer <- err
		case i < len(result.Errs):
			p.answer <- result.Errs[i]
		default:
			t.observeEnd(p.report)
			p.answer <- nil
		}
	}
}

// observeEnd tells how long an attempt took whose end was accepted.
func (t *term) observeEnd(r state.Report) {
	if !r.Report.State.Terminal() {
		return
	}
	a, err := t.store.Attempt(r.Fence)
	if err != nil || a.StartedAt == nil || a.FinishedAt == nil {
		return
	}
	t.config.Observer.Ended(t.kindOf(a.JobID, a.Stage), a.State, a.FinishedAt.Sub(*a.StartedAt))
}
