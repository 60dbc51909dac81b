package events

import (
	"context"
	"errors"

	"github.com/tunemesh/tunemesh/api"
)

// AppendState appends the control plane's STATE events; firstSeq is the number
// of the first transition. Its answers are those of Log.Append.
func AppendState(ctx context.Context, log Log, job string, firstSeq uint64, events []api.Event) (next uint64, err error) {
	return log.Append(ctx, job, SourceState, firstSeq, events)
}

// Projection is a log as the leader's loop writes to it and reads from it.
type Projection struct {
	Log Log
}

// AppendState appends a job's STATE events; firstSeq is the number of the first
// one's transition. It returns the number of the transition that the log wants
// next; where that is below firstSeq nothing was appended.
func (p Projection) AppendState(ctx context.Context, job string, firstSeq uint64, events []api.Event) (next uint64, err error) {
	next, err = AppendState(ctx, p.Log, job, firstSeq, events)
	if errors.Is(err, ErrHole) {
		return next, nil
	}
	return next, err
}

// Last returns the newest n events of an attempt, oldest first.
func (p Projection) Last(ctx context.Context, job string, fence uint64, n int) ([]api.Event, error) {
	return p.Log.LastOf(ctx, job, Source(fence), n)
}
