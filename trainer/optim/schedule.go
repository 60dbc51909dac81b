package optim

import (
	"fmt"
	"math"
)

// Schedule describes how the learning rate runs over a training: Warmup steps
// of linear rise, then one of "constant", "linear" (to 0) or "cosine" (to
// MinRatio of the peak, half a period). The shapes are those of Hugging Face's
// transformers/optimization.py.
type Schedule struct {
	Kind   string // "constant", "linear", "cosine"
	Peak   float64
	Warmup int // steps
	Total  int // steps, warm-up included
	// MinRatio is the share of Peak at which a cosine ends.
	MinRatio float64
}

// Validate says what is wrong with the schedule.
func (s Schedule) Validate() error {
	switch s.Kind {
	case "constant", "linear", "cosine":
	default:
		return fmt.Errorf("optim: schedule %q is not known: use constant, linear or cosine", s.Kind)
	}
	switch {
	case !(s.Peak >= 0) || math.IsInf(s.Peak, 0):
		return fmt.Errorf("optim: learning rate %g must be finite and not negative", s.Peak)
	case s.Warmup < 0 || s.Total < 1:
		return fmt.Errorf("optim: schedule needs warmup >= 0 and total >= 1, got %d and %d", s.Warmup, s.Total)
	case !(s.MinRatio >= 0 && s.MinRatio <= 1):
		return fmt.Errorf("optim: min ratio %g must be in [0, 1]", s.MinRatio)
	}
	return nil
}

// At returns the learning rate for the update number step, counted from 0. With
// warm-up the first update has rate 0, as in transformers.
func (s Schedule) At(step int) float64 {
	if step < s.Warmup {
		return s.Peak * float64(step) / float64(s.Warmup)
	}
	if s.Kind == "constant" {
		return s.Peak
	}
	span := max(1, s.Total-s.Warmup)
	done := min(1, float64(step-s.Warmup)/float64(span))
	if s.Kind == "linear" {
		return s.Peak * (1 - done)
	}
	c := 0.5 * (1 + math.Cos(math.Pi*done))
	return s.Peak * (s.MinRatio + (1-s.MinRatio)*c)
}
