package chaos

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
	opCreate  = "create"
	opGet     = "get"
	opCancel  = "cancel"
	opWrite   = "write"   // sets a ghost node's drain: a register
	opRead    = "read"    // reads it
	opPublish = "publish" // uploads a dataset
)

// input is what a client asked for.
type input struct {
	kind  string
	key   string // of the thing
	value bool   // of a write
}

// output is what it was told.
type output struct {
	// unknown: the write may or may not have taken effect, now or later.
	unknown bool
	status  int    // HTTP's
	phase   phase  // of a job
	value   bool   // of a register
	index   uint64 // Raft's, of the thing's last change
}

// phase is how far a job is. A job only moves on: the workload never resumes.
type phase int

const (
	absent phase = iota
	pending
	running
	ended // succeeded or failed: a refused cancel does not say which
	succeeded
	failed
	cancelled
)

func phaseOf(state string) phase {
	return map[string]phase{"pending": pending, "running": running, "succeeded": succeeded, "failed": failed, "cancelled": cancelled}[state]
}

// becomes says whether a job seen in p may be seen in next later.
func (p phase) becomes(next phase) bool {
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
	phase phase
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
			return step(s.(thing), in.(input), out.(output))
		},
		DescribeOperation: func(in, out any) string { return fmt.Sprintf("%+v -> %+v", in, out) },
	}
}

func byKey(history []porcupine.Operation) [][]porcupine.Operation {
	order := []string{}
	parts := map[string][]porcupine.Operation{}
	for _, o := range history {
		key := o.Input.(input).key
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

func step(s thing, in input, out output) (bool, thing) {
	there := s.phase != absent
	switch in.kind {
	case opCreate, opPublish:
		if out.unknown {
			if !there {
				s.phase = pending
			}
			return true, s
		}
		if in.kind == opPublish { // the same bytes are the same dataset
			if !there {
				s.phase = pending
			}
			return true, s
		}
		if out.status == 201 && there || out.status == 200 && !there {
			return false, s
		}
		if !there {
			s.phase = pending
		}
		return s.see(out)
	case opCancel:
		live := s.phase == pending || s.phase == running
		switch {
		case out.unknown:
			if live {
				s.phase = cancelled
			}
			return true, s
		case out.status == 404:
			return !there, s
		case out.status == 409: // it had ended by itself
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
	case opWrite:
		s.value, s.phase = in.value, pending
		return true, s
	case opRead:
		if out.status == 404 {
			return !there, s
		}
		// Registered, but not written yet: false.
		if out.value != s.value || out.index < s.index {
			return false, s
		}
		s.phase, s.index = pending, out.index
		return true, s
	case opGet:
		if out.status == 404 {
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
func (s thing) see(out output) (bool, thing) {
	if out.phase == absent { // a dataset
		return true, s
	}
	if !s.phase.becomes(out.phase) || out.index < s.index {
		return false, s
	}
	if out.phase != ended {
		s.phase = out.phase
	}
	s.index = out.index
	return true, s
}

// history gathers operations of many clients.
type history struct {
	mu    sync.Mutex
	begin time.Time
	ops   []porcupine.Operation
	// unknown counts writes without an answer.
	unknown int
}

func newHistory() *history { return &history{begin: time.Now()} }

func (h *history) now() int64 { return time.Since(h.begin).Nanoseconds() }

// add records an operation; one of unknown outcome goes on for ever.
func (h *history) add(client int, called int64, in input, out output) {
	returned := h.now()
	if out.unknown {
		returned = math.MaxInt64
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if out.unknown {
		h.unknown++
	}
	h.ops = append(h.ops, porcupine.Operation{ClientId: client, Input: in, Call: called, Output: out, Return: returned})
}

func (h *history) size() (ops, unknown int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops), h.unknown
}

// check returns what is not linearizable, key by key.
func (h *history) check(limit time.Duration) []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var faults []string
	for _, part := range byKey(h.ops) {
		switch porcupine.CheckOperationsTimeout(model(), part, limit) {
		case porcupine.Ok:
		case porcupine.Unknown:
			faults = append(faults, fmt.Sprintf("linearizability of %s could not be decided within %s (%d operations)", part[0].Input.(input).key, limit, len(part)))
		default:
			faults = append(faults, fmt.Sprintf("%s is not linearizable:\n%s", part[0].Input.(input).key, describe(part)))
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
