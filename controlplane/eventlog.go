package controlplane

import (
	"context"
	"errors"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
)

// eventLog is the event log as dispatch wants to see it.
type eventLog struct{ log events.Log }

func (e eventLog) Last(ctx context.Context, jobID string, fence uint64, n int) ([]api.Event, error) {
	return e.log.LastOf(ctx, jobID, events.Source(fence), n)
}

func (e eventLog) AppendState(ctx context.Context, jobID string, firstSeq uint64, list []api.Event) (uint64, error) {
	next, err := events.AppendState(ctx, e.log, jobID, firstSeq, list)
	if errors.Is(err, events.ErrHole) { // dispatch goes on from next
		return next, nil
	}
	return next, err
}
