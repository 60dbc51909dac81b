package training

import (
	"fmt"
	"math"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/training/watch"
)

// look shows a step's figures to the watch. A loss that is no number ends the
// training; other alarms warn, or end it if the config says so.
func (t *trainer) look(s watch.Step) error {
	for _, a := range t.state.Watch.See(s) {
		if a.Code == watch.Diverged || t.config.Training.OnDivergence == "stop" {
			return t.stopFor(a)
		}
		a.Figures["step"] = s.Number
		t.emit.Warn(a.Code, a.Message, a.Figures)
	}
	return nil
}

// diverged ends a training that another attempt would end in the same way.
func (t *trainer) diverged(loss, norm float64) error {
	return t.stopFor(watch.Alarm{Code: watch.Diverged, Since: t.state.Step,
		Message: fmt.Sprintf("the loss is %v and the gradient's norm %v at step %d", loss, norm, t.state.Step),
		Figures: map[string]any{"step": t.state.Step, "loss": fmt.Sprint(loss), "grad_norm": fmt.Sprint(norm)}})
}

// stopFor is the error that ends the stage for good. It names the newest
// checkpoint from before the trouble, which is announced so that the store keeps
// it.
func (t *trainer) stopFor(a watch.Alarm) error {
	e := &contract.Error{
		Class: contract.ClassConfig, Code: a.Code, Field: "training.learning_rate", Figures: a.Figures,
		Message: fmt.Sprintf("%s of %d", a.Message, t.total),
		Hint:    "lower training.learning_rate (a third of it), raise training.warmup_ratio, or lower training.max_grad_norm",
	}
	if a.Code == watch.ThroughputCollapse {
		e.Class, e.Field, e.Hint = contract.ClassTransient, "", "look at what else the node does: another attempt goes on from the last checkpoint"
	}
	if a.Code == watch.LossFlat {
		e.Hint = "raise training.learning_rate or training.rank, or look at whether the answers follow from the inputs at all"
	}
	name, step := t.lastGood(a.Since)
	if name == "" {
		e.Message += "; no checkpoint is older"
		return e
	}
	e.Message += fmt.Sprintf("; the last good checkpoint is %s at step %d", name, step)
	e.Figures["checkpoint"], e.Figures["checkpoint_step"] = name, step
	at := int64(step)
	t.emit.Emit(contract.Event{Level: contract.LevelInfo, Message: "checkpoint " + name + " is kept: it is the last good one", Step: &at, Checkpoint: name})
	return e
}

// lastGood is the newest valid checkpoint whose step came before the first bad
// one.
func (t *trainer) lastGood(since int) (name string, step int) {
	names, err := t.store.list()
	if err != nil {
		return "", 0
	}
	for _, n := range names {
		state, err := t.store.check(n, t.fingerprint)
		if err == nil && state.Step < since && (name == "" || state.Step > step) {
			name, step = n, state.Step
		}
	}
	return name, step
}

// A step that takes so many times longer than usual, and at least so long, has
// stalled.
const (
	stallFactor  = 10
	stallAtLeast = 30 * time.Second
)

// expect raises a warning if the step that begins now does not end in time. The
// timer is stopped when it does.
func (t *trainer) expect(tokens int64) *time.Timer {
	usual := t.state.Watch.MedianSeconds(int(tokens))
	if usual == 0 {
		usual = math.Inf(1) // nothing to compare with yet
	}
	limit := max(stallAtLeast, time.Duration(min(usual*stallFactor, 1e9)*float64(time.Second)))
	number, emit := t.state.Step+1, t.emit
	return time.AfterFunc(limit, func() {
		emit.Warn(contract.CodeStepStalled, fmt.Sprintf("step %d has taken %v and has not ended; such steps took %.1f s until now", number, limit.Round(time.Second), usual),
			map[string]any{"step": number, "seconds": limit.Seconds(), "usual_seconds": usual})
	})
}
