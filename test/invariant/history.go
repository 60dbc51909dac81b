package invariant

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// What clients do. Each history of a key is checked by itself.
const (
	Create  = "create"
	Get     = "get"
	Cancel  = "cancel"
	Write   = "write"   // sets a ghost node's drain: a register
	Read    = "read"    // reads it
	Publish = "publish" // uploads a dataset
)

// Input is what a client asked for.
type Input struct {
	Kind  string
	Key   string // of the thing
	Value bool   // of a write
}

// Output is what it was told.
type Output struct {
	// Unknown: the write may or may not have taken effect, now or later.
	Unknown bool
	Status  int    // HTTP's
	Phase   Phase  // of a job
	Value   bool   // of a register
	Index   uint64 // Raft's, of the thing's last change
}

// Phase is how far a job is. A job only moves on: the workload never resumes.
type Phase int

const (
	absent Phase = iota
	pending
	running
	ended // succeeded or failed: a refused cancel does not say which
	succeeded
	failed
	cancelled
)

// PhaseOf reads a job's state; one that is not known is absent.
func PhaseOf(state string) Phase {
	return map[string]Phase{"pending": pending, "running": running, "succeeded": succeeded, "failed": failed, "cancelled": cancelled}[state]
}

// becomes says whether a job seen in p may be seen in next later.
func (p Phase) becomes(next Phase) bool {
	switch {
	case p == next:
		return true
	case p == pending:
		return next > pending
	case p == running:
		return next > running
	case p == ended:
		return next == succeeded || next == failed
	case p == succeeded || p == failed:
		return next == ended
	}
	return false
}

// thing is the model's state of one key.
type thing struct {
	phase Phase
	value bool
	index uint64
}

// model is what the API promises of one job, register or dataset: each read
// sees what every write before it did, and never an older state than a read
// before it saw.
func model() porcupine.Model {
	return porcupine.Model{
		Partition: byKey,
		Init:      func() any { return thing{} },
		Step: func(s, in, out any) (bool, any) {
			return step(s.(thing), in.(Input), out.(Output))
		},
		DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
	}
}

func byKey(history []porcupine.Operation) [][]porcupine.Operation {
	order := []string{}
	parts := map[string][]porcupine.Operation{}
	for _, o := range history {
		key := o.Input.(Input).Key
		if parts[key] == nil {
			order = append(order, key)
		}
		parts[key] = append(parts[key], o)
	}
	var out [][]porcupine.Operation
	for _, key := range order {
		out = append(out, parts[key])
	}
	return out
}

func step(s thing, in Input, out Output) (bool, thing) {
	there := s.phase != absent
	switch in.Kind {
	case Create, Publish:
		if out.Unknown {
			if !there {
				s.phase = pending
			}
			return true, s
		}
		if in.Kind == Publish { // the same bytes are the same dataset
			if !there {
				s.phase = pending
			}
			return true, s
		}
		if out.Status == 201 && there || out.Status == 200 && !there {
			return false, s
		}
		if !there {
			s.phase = pending
		}
		return s.see(out)
	case Cancel:
		live := s.phase == pending || s.phase == running
		switch {
		case out.Unknown:
			if live {
				s.phase = cancelled
			}
			return true, s
		case out.Status == 404:
			return !there, s
		case out.Status == 409: // it had ended by itself
			if live {
				s.phase = ended
			}
			return there && s.phase != cancelled, s
		}
		if !live && s.phase != cancelled {
			return false, s
		}
		s.phase = cancelled
		return s.see(out)
	case Write:
		s.value, s.phase = in.Value, pending
		return true, s
	case Read:
		if out.Status == 404 {
			return !there, s
		}
		// Registered, but not written yet: false.
		if out.Value != s.value || out.Index < s.index {
			return false, s
		}
		s.phase, s.index = pending, out.Index
		return true, s
	case Get:
		if out.Status == 404 {
			return !there, s
		}
		if !there {
			return false, s
		}
		return s.see(out)
	}
	return false, s
}

// see takes in what an answer showed of a job or dataset.
func (s thing) see(out Output) (bool, thing) {
	if out.Phase == absent { // a dataset
		return true, s
	}
	if !s.phase.becomes(out.Phase) || out.Index < s.index {
		return false, s
	}
	if out.Phase != ended {
		s.phase = out.Phase
	}
	s.index = out.Index
	return true, s
}

// History gathers operations of many clients.
type History struct {
	mu    sync.Mutex
	begin time.Time
	ops   []porcupine.Operation
	// unknown counts writes without an answer.
	unknown int
}

// NewHistory returns one whose time begins now.
func NewHistory() *History { return &History{begin: time.Now()} }

// Now is the time in the history, in nanoseconds.
func (h *History) Now() int64 { return time.Since(h.begin).Nanoseconds() }

// Add records an operation; one of unknown outcome goes on for ever.
func (h *History) Add(client int, called int64, in Input, out Output) {
	returned := h.Now()
	if out.Unknown {
		returned = math.MaxInt64
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if out.Unknown {
		h.unknown++
	}
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: called, Output: out, Return: returned})
}

func (h *History) Size() (ops, unknown int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops), h.unknown
}

// Check returns what is not linearizable, key by key.
func (h *History) Check(limit time.Duration) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var faults []string
	for _, part := range byKey(h.ops) {
		switch porcupine.CheckOperationsTimeout(model(), part, limit) {
		case porcupine.Ok:
		case porcupine.Unknown:
			faults = append(faults, fmt.Sprintf("linearizability of %s could not be decided within %s (%d operations)", part[0].Input.(Input).Key, limit, len(part)))
		default:
			faults = append(faults, fmt.Sprintf("%s is not linearizable:\n%s", part[0].Input.(Input).Key, describe(part)))
		}
	}
	return faults
}

func describe(part []porcupine.Operation) string {
	var b strings.Builder
	for i, o := range part {
		if i == 60 {
			fmt.Fprintf(&b, "  ... and %d more\n", len(part)-i)
			break
		}
		end := "never"
		if o.Return != math.MaxInt64 {
			end = time.Duration(o.Return).Round(time.Microsecond).String()
		}
		fmt.Fprintf(&b, "  client %d, %s to %s: %+v -> %+v\n", o.ClientId, time.Duration(o.Call).Round(time.Microsecond), end, o.Input, o.Output)
	}
	return b.String()
}
