package events

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/tunemesh/tunemesh/api"
)

// Base is what of a job's stream is archived. A log whose own events are not
// those that were archived, because it was lost, trimmed or another server's,
// forgets them and goes on after the base. The zero Base says nothing.
type Base struct {
	Last    uint64            `json:"last"`
	Life    string            `json:"life,omitempty"`
	Sources map[string]uint64 `json:"sources,omitempty"`
}

// BaseOf returns the base that a job's archived parts make.
func BaseOf(parts []api.EventArchive) Base {
	if len(parts) == 0 {
		return Base{}
	}
	p := parts[len(parts)-1]
	return Base{Last: p.Last, Life: p.Life, Sources: p.Sources}
}

// Position says where a stream is. Two numbers mean the same event where the
// lives are equal: a stream that was lost, and came back from what its senders
// had kept, has another life, since its lines may stand in another order.
type Position struct {
	Life string
	// First is the number of the oldest event that is kept, Last that of the
	// newest; First is Last+1 where none is kept.
	First, Last uint64
	// Sources are the numbers of each source's last event.
	Sources map[string]uint64
}

// span is how many numbers of its source an event takes: one, or all of the
// lines that a gap stands for.
func span(e api.Event) uint64 {
	if e.Gap != nil && e.Gap.To >= e.Gap.From {
		return e.Gap.Count()
	}
	return 1
}

// Numbered is an event with the number of its source that it ends with.
type Numbered struct {
	Event  api.Event
	Number uint64
}

// Number gives the events of a batch their numbers, from firstSeq on.
func Number(firstSeq uint64, list []api.Event) []Numbered {
	out := make([]Numbered, len(list))
	next := firstSeq
	for i, e := range list {
		next += span(e)
		e.SourceSeq = next - 1
		out[i] = Numbered{e, next - 1}
	}
	return out
}

// Gone stands for the events from..to, which are no longer there. Its number is
// the last of theirs.
func Gone(job string, from, to uint64, before api.Event) api.Event {
	fields, _ := json.Marshal(map[string]uint64{"gone_from": from, "gone_to": to})
	return api.Event{
		Seq: to, RunID: job, Timestamp: before.Timestamp, Level: api.LevelWarn, Fields: fields,
		Message: fmt.Sprintf("events %d to %d are no longer in the event store: its retention let go of them", from, to),
	}
}

// IsGone says whether an event was made by Gone.
func IsGone(e api.Event) bool {
	return e.SourceSeq == 0 && e.Fence == 0 && e.Level == api.LevelWarn && strings.HasPrefix(string(e.Fields), `{"gone_from":`)
}

// Complete says whether a stream has the lines that its sources are known to
// have: by source the number of the last.
func Complete(ctx context.Context, log Log, job string, want map[string]uint64) (bool, error) {
	at, err := log.Position(ctx, job)
	if err != nil {
		return false, err
	}
	for source, n := range want {
		if at.Sources[source] < n {
			return false, nil
		}
	}
	return true, nil
}
