package dispatch

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/failpoint"
	"github.com/tunemesh/tunemesh/tracing"
)

// publishers is how many stages are published at a time: copies are made by the
// store, but each takes a connection.
const publishers = 4

// publishLoop has the well-known copies of succeeded stages written, and
// records that they are. A failure is tried again, later and later; copies are
// a convenience and hold nothing up.
func (t *term) publishLoop(ctx context.Context) {
	failures := map[state.StageRef]int{}
	notBefore := map[state.StageRef]time.Time{}
	for {
		w := t.store.Watch(state.TopicUnpublished)
		now := t.config.Clock()
		var next time.Time
		var due []api.Stage
		for _, s := range t.store.UnpublishedStages() {
			if at := notBefore[refOf(s)]; now.Before(at) {
				if next.IsZero() || at.Before(next) {
					next = at
				}
				continue
			}
			due = append(due, s)
		}
		done, failed := t.publish(ctx, due)
		if ctx.Err() != nil {
			return
		}
		for _, ref := range failed {
			at := t.config.Clock().Add(max(t.backoff(failures[ref]), t.config.BackoffBase/2))
			failures[ref]++
			notBefore[ref] = at
			if next.IsZero() || at.Before(next) {
				next = at
			}
		}
		if len(done) > 0 {
			_ = failpoint.At(failpoint.CopiesUnrecorded)
			if _, err := t.config.Raft.Apply(ctx, state.MarkPublished{Stages: done, At: t.config.Clock().UTC()}); err != nil && ctx.Err() == nil {
				t.config.Log.Warn("cannot record what was published", "err", err)
				next = t.config.Clock().Add(time.Second)
			} else {
				for _, ref := range done {
					delete(failures, ref)
					delete(notBefore, ref)
				}
			}
		}
		if !t.sleep(ctx, w, nil, next, minPause) {
			return
		}
	}
}

func refOf(s api.Stage) state.StageRef {
	return state.StageRef{JobID: s.JobID, Stage: s.Name, Fence: s.Fence}
}

func (t *term) publish(ctx context.Context, stages []api.Stage) (done, failed []state.StageRef) {
	var group errgroup.Group
	group.SetLimit(publishers)
	var mu sync.Mutex
	for _, s := range stages[:min(len(stages), perEntry)] {
		group.Go(func() error {
			a, _ := t.store.Attempt(s.Fence)
			traced, span := tracing.Begin(tracing.Under(ctx, a.TraceParent), "publish", "job", s.JobID, "stage", s.Name)
			err := t.config.Publisher.Publish(traced, s)
			span.End(err)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed = append(failed, refOf(s))
				t.config.Log.Warn("copies under well-known names are not written yet", "job", s.JobID, "stage", s.Name, "fence", s.Fence, "err", err)
			} else {
				done = append(done, refOf(s))
			}
			return nil
		})
	}
	_ = group.Wait()
	return done, failed
}
