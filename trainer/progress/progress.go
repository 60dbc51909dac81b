// Package progress turns a loop's position into few progress events with the time
// that is left. It knows nothing of what is counted.
package progress

import (
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

// interval between two events: often enough for a bar to move, seldom enough not
// to be the work.
const interval = 500 * time.Millisecond

// Reporter emits progress events, at most two a second. Its methods are for one
// goroutine.
type Reporter struct {
	emit  *contract.Emitter
	now   func() time.Time
	unit  string
	total int64
	start time.Time
	last  time.Time
}

// New starts a report of total units (0: not known).
func New(emit *contract.Emitter, unit string, total int64, now func() time.Time) *Reporter {
	t := now()
	return &Reporter{emit: emit, now: now, unit: unit, total: total, start: t, last: t}
}

// At says that done units are done. It is cheap enough for every hundred rows.
func (r *Reporter) At(done int64) {
	t := r.now()
	if t.Sub(r.last) < interval {
		return
	}
	r.last = t
	p := contract.Progress{Done: done, Total: r.total, Unit: r.unit}
	if done > 0 && r.total > done {
		p.ETASeconds = t.Sub(r.start).Seconds() * float64(r.total-done) / float64(done)
	}
	r.emit.Progress(p)
}

// End reports that all is done and returns the seconds it took.
func (r *Reporter) End(done int64) float64 {
	r.emit.Progress(contract.Progress{Done: done, Total: done, Unit: r.unit})
	return max(r.now().Sub(r.start).Seconds(), 1e-9)
}
