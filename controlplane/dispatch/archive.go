package dispatch

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/failpoint"
)

// Archiver puts the events of finished jobs into the object store.
type Archiver interface {
	// Archive writes what the job's log holds beyond the recorded parts and
	// returns it as the next part, nil if there is nothing. If the log lacks a
	// change of state up to transitions, or an attempt's line up to lines (by
	// fence), it says what is missing and archives only if anyway is set.
	Archive(ctx context.Context, jobID string, recorded []api.EventArchive, transitions uint64, lines map[uint64]uint64, anyway bool) (part *api.EventArchive, missing string, err error)
	// Finish lets the log forget, in its time, what is archived.
	Finish(ctx context.Context, jobID string) error
}

const (
	// archiveAfter is how long a job has ended before its events are archived.
	archiveAfter = 2 * time.Second
	// archiveGrace is that for jobs with attempts that were given up: their
	// agents stop them and ship their last words.
	archiveGrace = time.Minute
	// archivePatience is how long missing lines are waited for. Should they come
	// later, they are archived then.
	archivePatience = 10 * time.Minute
	// archiveAgain is the pause before another try.
	archiveAgain = 5 * time.Second
)

// archiveLoop archives the events of jobs that have ended. Its work is the jobs
// that have ended and whose transitions are not trimmed; each step is recorded
// before the next, and may be repeated:
//
//	upload the part -> record it -> let the log forget -> trim the transitions
func (t *term) archiveLoop(ctx context.Context) {
	var changes follower
	ended := map[string]time.Time{} // jobs to archive, and not before when
	for {
		w := t.store.Watch(state.TopicTransitions)
		start := time.Now()
		now := t.config.Clock()
		var next time.Time
		at := func(due time.Time) {
			if next.IsZero() || due.Before(next) {
				next = due
			}
		}
		for _, b := range t.archiveWork(&changes, ended, now, at) {
			if ctx.Err() != nil {
				return
			}
			due, anyway := t.archiveDue(b.JobID)
			if now.Before(due) {
				ended[b.JobID] = due
				at(due)
				continue
			}
			done, err := t.archive(ctx, b, !now.Before(anyway))
			if err != nil && ctx.Err() == nil {
				t.config.Log.Warn("events are not archived yet", "job", b.JobID, "err", err)
			}
			if !done {
				at(t.config.Clock().Add(archiveAgain))
			}
		}
		if !t.sleep(ctx, w, t.archivePoke, next, max(4*time.Since(start), minPause)) {
			return
		}
	}
}

// archiveWork lists the ended jobs whose transitions are kept and may be due,
// and those with late lines. It keeps ended, and calls at with when a job of it
// that is not listed is due.
func (t *term) archiveWork(changes *follower, ended map[string]time.Time, now time.Time, at func(time.Time)) []state.Backlog {
	view, changed, anew := changes.read(t.store)
	if anew {
		clear(ended)
	}
	for _, b := range changed {
		if b.Terminal {
			ended[b.JobID] = time.Time{}
		}
	}
	var out []state.Backlog
	listed := map[string]bool{}
	for job, due := range ended {
		if now.Before(due) {
			at(due)
			continue
		}
		b, ok := view.Backlog(job)
		if !ok || !b.Terminal {
			delete(ended, job) // archived, or it goes on and will end again
			continue
		}
		out, listed[job] = append(out, b), true
	}
	slices.SortFunc(out, func(a, b state.Backlog) int { return strings.Compare(a.JobID, b.JobID) })
	t.mu.Lock()
	defer t.mu.Unlock()
	for job := range t.late {
		if j, err := t.store.Job(job); err != nil || !j.State.Terminal() {
			delete(t.late, job) // it will end again
		} else if !listed[job] {
			out = append(out, state.Backlog{JobID: job, Last: t.store.LastTransition(job), Terminal: true})
		}
	}
	return out
}

// Late says that lines came for a job whose events were archived.
func (d *Dispatcher) Late(jobID string) {
	if t := d.leading(); t != nil && t.config.Archiver != nil {
		t.mu.Lock()
		t.late[jobID] = t.config.Clock()
		t.mu.Unlock()
		poke(t.archivePoke)
	}
}

// archiveDue says when a job may be archived, and when even with lines missing.
func (t *term) archiveDue(jobID string) (due, anyway time.Time) {
	view := t.store.At()
	j, err := view.Job(jobID)
	if err != nil || j.FinishedAt == nil {
		return time.Time{}, time.Time{}
	}
	due = j.FinishedAt.Add(archiveAfter)
	for _, a := range view.Attempts(jobID) {
		if (a.State == api.AttemptCancelled || a.State == api.AttemptLost) && a.FinishedAt != nil {
			if at := a.FinishedAt.Add(archiveGrace); at.After(due) {
				due = at
			}
		}
	}
	t.mu.Lock()
	if at, ok := t.late[jobID]; ok {
		if at = at.Add(archiveAfter); at.After(due) {
			due = at
		}
	}
	t.mu.Unlock()
	// A new leader gives the agents the time to send again.
	anyway = j.FinishedAt.Add(archivePatience)
	if at := t.started.Add(archivePatience); at.After(anyway) {
		anyway = at
	}
	return due, anyway
}

// archive takes a job through the steps; done says that nothing is left to do.
func (t *term) archive(ctx context.Context, b state.Backlog, anyway bool) (done bool, err error) {
	view := t.store.At()
	recorded := view.EventArchives(b.JobID)
	lines := map[uint64]uint64{}
	for _, a := range view.Attempts(b.JobID) {
		if a.Lines > 0 {
			lines[a.Fence] = a.Lines
		}
	}
	t.mu.Lock()
	noticed, late := t.late[b.JobID]
	t.mu.Unlock()
	if archivedTransitions(recorded) < b.Last || late {
		// The log may have lost state changes that were projected; this term's
		// projection would not notice.
		again := b
		again.Terminal = false
		if _, err := t.project(ctx, again, 0); err != nil {
			return false, err
		}
		part, missing, err := t.config.Archiver.Archive(ctx, b.JobID, recorded, b.Last, lines, anyway)
		switch {
		case err != nil:
			return false, err
		case part != nil:
			if missing != "" {
				t.config.Log.Warn("events are archived though some are missing", "job", b.JobID, "missing", missing)
			}
			if err := failpoint.At(failpoint.ArchiveUnrecorded); err != nil {
				return false, err
			}
			if _, err := t.config.Raft.Apply(ctx, state.ArchiveEvents{JobID: b.JobID, Part: *part}); err != nil {
				return false, err
			}
			if err := failpoint.At(failpoint.ArchiveUnforgotten); err != nil {
				return false, err
			}
			t.config.Log.Info("events are archived", "job", b.JobID, "first", part.First, "last", part.Last, "bytes", part.Size)
		case missing != "":
			t.config.Log.Debug("the event log waits for lines", "job", b.JobID, "missing", missing)
			return false, nil
		}
		recorded = t.store.EventArchives(b.JobID)
	}
	if err := t.config.Archiver.Finish(ctx, b.JobID); err != nil {
		return false, err
	}
	if err := failpoint.At(failpoint.TransitionsUntrimmed); err != nil {
		return false, err
	}
	t.mu.Lock()
	if t.late[b.JobID].Equal(noticed) {
		delete(t.late, b.JobID)
	}
	t.mu.Unlock()
	upto := archivedTransitions(recorded)
	if anyway {
		upto = max(upto, b.Last) // the log will never have them
	}
	if upto > 0 {
		_, err = t.config.Raft.Apply(ctx, state.TrimTransitions{JobID: b.JobID, Upto: upto})
	}
	return err == nil && upto >= b.Last, err
}

// archivedTransitions is the number of the last change of state that is
// archived.
func archivedTransitions(parts []api.EventArchive) uint64 {
	if len(parts) == 0 {
		return 0
	}
	return parts[len(parts)-1].Sources["state"]
}
