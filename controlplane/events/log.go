package events

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/tunemesh/tunemesh/api"
)

// Limits.
const (
	// MaxEvent is the largest event in bytes of JSON. A larger one is stored
	// without its fields and with its message cut, since refusing it would stop
	// its attempt's stream for ever.
	MaxEvent = 256 << 10
	// maxRead bounds the bytes of JSON that one Read returns.
	maxRead = 1 << 20
)

// SourceState is the control plane's own source; its numbers are those of the
// job's transitions.
const SourceState = "state"

// Source names an attempt as a source of events.
func Source(fence uint64) string { return "a" + strconv.FormatUint(fence, 10) }

// ErrHole: a batch starts beyond the number that is expected next from its
// source. Nothing was stored; Append returned the expected number.
var ErrHole = errors.New("events are missing before this batch")

// ErrClosed: the log is closed.
var ErrClosed = errors.New("event log is closed")

// Log is an ordered event stream per job. It is safe for concurrent use.
type Log interface {
	// Append stores events of one source of a job, numbered from firstSeq (from
	// 1 per source, without holes), and returns the number expected next from
	// that source. What is stored already is skipped; a batch that starts beyond
	// the expected number stores nothing and gives ErrHole. An event with a Gap
	// takes as many numbers as the lines that it stands for. On return all is
	// durable. The log sets Seq, RunID and SourceSeq; the slice is not kept and
	// not changed.
	//
	// A hole is the sign that the log has lost what it acknowledged before: where
	// it has other events of the job, they get another life (see Position).
	Append(ctx context.Context, job, source string, firstSeq uint64, events []api.Event) (next uint64, err error)
	// Next returns the number expected next from a source, 1 for a new one.
	Next(ctx context.Context, job, source string) (uint64, error)
	// Read returns the events of a job with numbers above after, in order, at
	// most max and at most about 1 MiB; none at the end. An unknown job is an
	// empty stream. In the place of events that are no longer kept it returns one
	// made by Gone. The events are shared: do not change what they point to.
	Read(ctx context.Context, job string, after uint64, max int) ([]api.Event, error)
	// LastOf returns the newest n events of one source, oldest first.
	LastOf(ctx context.Context, job, source string, n int) ([]api.Event, error)
	// Wait returns nil once the job has an event with a number above after.
	Wait(ctx context.Context, job string, after uint64) error
	// Position says where a job's stream is; what is archived counts as its own,
	// though not as kept. A reader that compares it before and after a Read knows
	// to which life the events belong.
	Position(ctx context.Context, job string) (Position, error)
	// Life returns what Position says of it, at less cost.
	Life(ctx context.Context, job string) (string, error)
	Close() error
}

var (
	jobName    = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)
	sourceName = regexp.MustCompile(`^[a-z][a-z0-9]{0,31}$`)
)

// checkNames keeps names out that would leave the log's folder or break a line.
func checkNames(job, source string) error {
	if !jobName.MatchString(job) {
		return fmt.Errorf("events: %q is no job id", job)
	}
	if !sourceName.MatchString(source) {
		return fmt.Errorf("events: %q is no source", source)
	}
	return nil
}
