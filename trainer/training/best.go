package training

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"slices"

	"github.com/tunemesh/tunemesh/trainer/sample"
)

// capValidation draws the samples that a pass over the validation split measures,
// where there are more than the config allows: the same ones each time, by the
// seed.
func (t *trainer) capValidation() {
	all, most := len(t.validation), t.config.Training.MaxEvalSamples
	if all <= most {
		return
	}
	drawn := rand.New(rand.NewPCG(t.config.Seed, 0x6576616c)).Perm(all)[:most]
	slices.Sort(drawn)
	picked := make([]sample.Sample, 0, most)
	for _, i := range drawn {
		picked = append(picked, t.validation[i])
	}
	t.validation = picked
	t.emit.Info(fmt.Sprintf("the loss during training is measured on %d of the %d validation samples, drawn by the seed", most, all),
		map[string]any{"samples": most, "of": all, "field": "training.max_eval_samples"})
}

// judge takes in one evaluation of the trained model. It says whether this is the
// best one, and sets Stopped if too many in a row were no better.
func (t *trainer) judge(loss float64) (best bool) {
	s, c := &t.state, t.config.Training
	if s.Best == nil || loss < s.Best.EvalLoss {
		s.Best, best = &Best{Step: s.Step, EvalLoss: loss}, true
	}
	if s.Reference == nil || loss < *s.Reference-c.MinDelta {
		s.Reference, s.Worse = &loss, 0
		return best
	}
	s.Worse++
	if c.Patience > 0 && s.Worse >= c.Patience {
		s.Stopped = true
		t.emit.Info(fmt.Sprintf("training ends early at step %d of %d: %d evaluations in a row were not below %.4f by more than %g", s.Step, t.total, s.Worse, *s.Reference, c.MinDelta),
			map[string]any{"step": s.Step, "evaluations": s.Worse, "reference": *s.Reference, "eval_loss": loss, "field": "training.early_stopping_patience"})
	}
	return best
}

// loadBest brings the engine to the weights that go out, and returns their step:
// those of the lowest validation loss if the config says so, else the last ones.
func (t *trainer) loadBest() (step int, err error) {
	last, best := t.state.Step, t.state.Best
	if !t.config.Training.LoadBest || best == nil || best.Step == last {
		return last, nil
	}
	state, err := t.store.check(best.Checkpoint, t.fingerprint)
	if err != nil {
		t.emit.Warn("BEST_CHECKPOINT_MISSING", fmt.Sprintf("the best weights, of step %d, cannot be used, so those of the last step %d go out: checkpoint %s: %v", best.Step, last, best.Checkpoint, err), nil)
		return last, nil
	}
	if err := t.engine.LoadState(filepath.Join(t.store.Dir, best.Checkpoint), state.OptimStep); err != nil {
		return 0, fmt.Errorf("training: checkpoint %s: %w", best.Checkpoint, err)
	}
	t.emit.Info(fmt.Sprintf("the weights of step %d go out: their validation loss of %.4f is the lowest", best.Step, best.EvalLoss),
		map[string]any{"step": best.Step, "eval_loss": best.EvalLoss, "checkpoint": best.Checkpoint, "field": "training.load_best"})
	return best.Step, nil
}
