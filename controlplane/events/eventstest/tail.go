package eventstest

import (
	"context"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
)

// Tail follows a job's stream. It holds a position and nothing else: a reader
// that is slow reads older events from the log later, at its own cost. It is
// not safe for concurrent use.
type Tail struct {
	log   events.Log
	job   string
	after uint64
}

// Follow returns a tail that starts after a number.
func Follow(log events.Log, job string, after uint64) *Tail { return &Tail{log, job, after} }

// Resume is the number of the last event that Next returned: where to go on.
func (t *Tail) Resume() uint64 { return t.after }

// Next returns the next events, at most max; it waits until there is one. When
// ctx ends first it returns ctx's error.
func (t *Tail) Next(ctx context.Context, max int) ([]api.Event, error) {
	for {
		got, err := t.log.Read(ctx, t.job, t.after, max)
		if err != nil {
			return nil, err
		}
		if len(got) > 0 {
			t.after = got[len(got)-1].Seq
			return got, nil
		}
		if err := t.log.Wait(ctx, t.job, t.after); err != nil {
			return nil, err
		}
	}
}
