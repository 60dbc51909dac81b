package watch

import (
	"fmt"
	"math"
	"slices"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

// Codes of alarms.
const (
	Diverged           = contract.CodeDiverged
	LossExploding      = contract.CodeLossExploding
	LossFlat           = contract.CodeLossFlat
	ThroughputCollapse = contract.CodeThroughputCollapse
)

// How much is remembered, and what is compared with it.
const (
	window  = 50 // steps whose median is "before"
	atLeast = 10 // steps before anything is compared
	recent  = 3  // steps in a row that must all be out of line
	early   = 25 // steps whose median is the loss at the start
	settled = 100
	quiet   = 100 // steps until the same alarm may be raised again

	explodes  = 2.0  // times the median, and
	leastRise = 0.5  // nats above it, and
	spread    = 8.0  // times the median deviation above it
	flatPart  = 0.01 // of the starting loss that it must have moved
	fitted    = 0.05 // nats: a loss that starts below has nowhere to go
	collapse  = 0.25 // of the median tokens per second
	bucket    = 2.0  // seconds of steps that are one measurement of the speed: a moment's load on the machine is none
)

// Step is what was measured in one update.
type Step struct {
	Number    int     // updates done, this one included
	Loss      float64 // mean over the targets, nats
	GradNorm  float64
	Tokens    int
	Seconds   float64 // of the update alone; 0 if not measured
	WarmingUp bool    // the learning rate has not reached its peak
	// Skipped: the update was left out on purpose, its norm says nothing.
	Skipped bool
}

// Alarm is what is wrong, with the figures that say so.
type Alarm struct {
	Code    string
	Message string
	Figures map[string]any
	// Since is the first step that is out of line.
	Since int
}

// Watch is the memory of a training. The zero value has seen nothing; its JSON
// form goes into a checkpoint.
type Watch struct {
	First  []float64 `json:"first,omitempty"`  // losses after the warm-up, up to early
	Losses []float64 `json:"losses,omitempty"` // the last ones, the newest last
	Speeds []float64 `json:"speeds,omitempty"` // tokens per second, likewise, each over a bucket of seconds
	// Tokens and Seconds of the bucket that is not full yet.
	Tokens  float64 `json:"tokens,omitempty"`
	Seconds float64 `json:"seconds,omitempty"`

	Seen   int            `json:"seen,omitempty"`   // steps after the warm-up
	Raised map[string]int `json:"raised,omitempty"` // step of each code's last alarm
}

// See takes one step in and returns what is wrong by now. Each alarm is raised
// once, and again only after a while.
func (w *Watch) See(s Step) []Alarm {
	if bad(s.Loss) || bad(s.GradNorm) && !s.Skipped {
		return []Alarm{{Code: Diverged, Since: s.Number,
			Message: fmt.Sprintf("the loss is %v and the gradient's norm %v at step %d", s.Loss, s.GradNorm, s.Number),
			Figures: map[string]any{"step": s.Number, "loss": fmt.Sprint(s.Loss), "grad_norm": fmt.Sprint(s.GradNorm)}}}
	}
	var out []Alarm
	raise := func(a Alarm, ok bool) {
		if !ok {
			return
		}
		if at, before := w.Raised[a.Code]; before && s.Number-at < quiet {
			return
		}
		if w.Raised == nil {
			w.Raised = map[string]int{}
		}
		w.Raised[a.Code] = s.Number
		out = append(out, a)
	}
	w.Losses = push(w.Losses, s.Loss)
	raise(w.exploding(s))
	if !s.WarmingUp {
		w.Seen++
		if len(w.First) < early {
			w.First = append(w.First, s.Loss)
		}
		raise(w.flat(s))
	}
	w.Tokens, w.Seconds = w.Tokens+float64(s.Tokens), w.Seconds+s.Seconds
	if w.Seconds >= bucket {
		w.Speeds = push(w.Speeds, w.Tokens/w.Seconds)
		w.Tokens, w.Seconds = 0, 0
		raise(w.collapsed(s))
	}
	return out
}

// exploding: the last steps are all far above the median before them.
func (w *Watch) exploding(s Step) (Alarm, bool) {
	before, last := split(w.Losses)
	if len(before) < atLeast {
		return Alarm{}, false
	}
	m := median(before)
	limit := max(explodes*m, m+leastRise, m+spread*deviation(before, m))
	if slices.Min(last) <= limit {
		return Alarm{}, false
	}
	return Alarm{Code: LossExploding, Since: s.Number - recent + 1,
		Message: fmt.Sprintf("the loss is %.3f at step %d, and was above %.3f for %d steps; the median of the %d steps before is %.3f", s.Loss, s.Number, limit, recent, len(before), m),
		Figures: map[string]any{"step": s.Number, "loss": s.Loss, "median": m, "limit": limit, "steps": recent}}, true
}

// flat: after many steps the loss is where it began.
func (w *Watch) flat(s Step) (Alarm, bool) {
	if w.Seen != settled || len(w.First) < early {
		return Alarm{}, false
	}
	start, now := median(w.First), median(w.Losses[max(0, len(w.Losses)-early):])
	if start < fitted || now < start*(1-flatPart) || now > start*explodes {
		return Alarm{}, false
	}
	return Alarm{Code: LossFlat, Since: s.Number - settled + 1,
		Message: fmt.Sprintf("the loss is %.4f after %d steps at the full learning rate, and began at %.4f: nothing is learned", now, settled, start),
		Figures: map[string]any{"step": s.Number, "loss": now, "first_loss": start, "steps": settled}}, true
}

// collapsed: the last measurements were all far slower than the median before
// them.
func (w *Watch) collapsed(s Step) (Alarm, bool) {
	before, last := split(w.Speeds)
	if len(before) < atLeast {
		return Alarm{}, false
	}
	m := median(before)
	if slices.Max(last) >= collapse*m {
		return Alarm{}, false
	}
	return Alarm{Code: ThroughputCollapse, Since: s.Number,
		Message: fmt.Sprintf("the last %d measurements until step %d are %.0f tokens per second at most; the median of the %d before is %.0f", recent, s.Number, slices.Max(last), len(before), m),
		Figures: map[string]any{"step": s.Number, "tokens_per_sec": slices.Max(last), "median": m, "measurements": recent}}, true
}

// MedianSeconds is how long a step of so many tokens usually takes, or 0 while
// too few were seen.
func (w *Watch) MedianSeconds(tokens int) float64 {
	if len(w.Speeds) < atLeast {
		return 0
	}
	return float64(tokens) / median(w.Speeds)
}

func push(list []float64, v float64) []float64 {
	list = append(list, v)
	return list[max(0, len(list)-window-recent):]
}

// split cuts the last steps off those before.
func split(list []float64) (before, last []float64) {
	n := max(0, len(list)-recent)
	return list[:n], list[n:]
}

func bad(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }

func median(list []float64) float64 {
	s := slices.Sorted(slices.Values(list))
	n := len(s)
	if n%2 == 1 {
		return s[n/2]
	}
	return (s[n/2-1] + s[n/2]) / 2
}

// deviation is the median distance from m.
func deviation(list []float64, m float64) float64 {
	d := make([]float64, len(list))
	for i, v := range list {
		d[i] = math.Abs(v - m)
	}
	return median(d)
}
