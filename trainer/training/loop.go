package training

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/engine"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/progress"
	"github.com/tunemesh/tunemesh/trainer/sample"
	"github.com/tunemesh/tunemesh/trainer/training/history"
	"github.com/tunemesh/tunemesh/trainer/training/watch"
)

// loop does the steps that are left.
func (t *trainer) loop(ctx context.Context) error {
	t.began, t.startTokens, t.startSamples = time.Now(), t.state.Tokens, t.state.Samples
	perEpoch := t.order.StepsPerEpoch()
	var steps [][]int
	epoch := -1
	if t.state.Step == 0 && len(t.state.Log.Evaluations) == 0 {
		loss, ok, err := t.evaluate() // what the model makes of it before it is trained
		if err != nil {
			return err
		}
		if ok {
			t.state.Reference = &loss
		}
	}
	window := t.newWindow()
	for t.state.Step < t.total && !t.state.Stopped {
		if ctx.Err() != nil {
			return errors.Join(t.checkpoint("step_"+strconv.Itoa(t.state.Step), false), ctx.Err())
		}
		if e := t.state.Step / perEpoch; e != epoch {
			epoch, steps = e, t.order.Epoch(e)
		}
		norm, rate, err := t.step(steps[t.state.Step%perEpoch])
		if err != nil {
			return err
		}
		t.state.Step++
		t.state.Epoch = float64(t.state.Step) / float64(perEpoch)
		last := t.state.Step == t.total
		if t.state.Step%t.config.Training.LoggingSteps == 0 || last {
			t.log(window, norm, rate)
			window = t.newWindow()
		}
		if err := t.milestones(perEpoch, last); err != nil {
			return err
		}
	}
	return nil
}

// milestones evaluates and saves where it is time to.
func (t *trainer) milestones(perEpoch int, last bool) error {
	c := t.config.Training
	within := t.state.Step % perEpoch
	// part counts the evaluations that are due by a step.
	part := func(step int) int { return step * c.EvaluationsPerEpoch / perEpoch }
	name, announce := "", false
	switch {
	case within == 0:
		name, announce = "epoch_"+strconv.Itoa(t.state.Step/perEpoch), true
	case last: // ended by max_steps within an epoch
		name, announce = "epoch_"+strconv.Itoa(t.state.Step/perEpoch+1), true
	case t.state.Step%c.CheckpointSteps == 0:
		name = "step_" + strconv.Itoa(t.state.Step)
	}
	if last || part(t.state.Step) != part(t.state.Step-1) {
		loss, ok, err := t.evaluate()
		if err != nil {
			return err
		}
		if ok && t.judge(loss) {
			if name == "" {
				name = "step_" + strconv.Itoa(t.state.Step)
			}
			announce = true
			t.state.Best.Checkpoint = name
		}
		if t.state.Stopped && name == "" {
			name, announce = "step_"+strconv.Itoa(t.state.Step), true
		}
	}
	if name == "" {
		return nil
	}
	return t.checkpoint(name, announce)
}

// step makes one update from the samples of these indexes.
func (t *trainer) step(indexes []int) (norm, rate float64, err error) {
	before := t.state.Tokens
	step := engine.Step{FirstMicro: t.state.Micro, Rate: t.rate.At(t.state.Step), MaxNorm: t.config.Training.MaxGradNorm}
	for _, micro := range t.micros(indexes) {
		batch := make([]model.Sequence, 0, len(micro))
		for _, i := range micro {
			batch = append(batch, sequence(&t.train[i]))
			t.state.Tokens += int64(len(t.train[i].Tokens))
		}
		step.Micro = append(step.Micro, batch)
	}
	t.state.Micro += uint64(len(step.Micro))
	t.state.Samples += int64(len(indexes))
	tokens := t.state.Tokens - before
	stalled := t.expect(tokens)
	began := time.Now()
	u, err := t.engine.Step(step)
	seconds := time.Since(began).Seconds()
	stalled.Stop()
	if err != nil {
		return 0, 0, fmt.Errorf("training: step %d: %w", t.state.Step+1, err)
	}
	if err := t.count(u); err != nil {
		return 0, 0, err
	}
	if err := t.look(watch.Step{
		Number: t.state.Step + 1, Loss: u.LossSum / float64(u.Targets), GradNorm: u.Norm, Tokens: int(tokens), Seconds: seconds,
		WarmingUp: t.state.Step < t.rate.Warmup, Skipped: u.Skipped,
	}); err != nil {
		return 0, 0, err
	}
	t.state.WindowLoss += u.LossSum
	t.state.WindowTargets += int64(u.Targets)
	if t.state.Step == 0 {
		t.state.FirstLoss = u.LossSum / float64(u.Targets)
	}
	return u.Norm, step.Rate, nil
}

// maxSkips is how many steps in a row may overflow in half precision: its loss
// scale is halved each time, from 2^16 down to 1.
const maxSkips = 20

func (t *trainer) count(u engine.Update) error {
	if !u.Skipped {
		t.state.OptimStep++
		t.skipped = 0
		return nil
	}
	t.skipped++
	if t.skipped > maxSkips {
		return t.diverged(u.LossSum/float64(u.Targets), u.Norm)
	}
	return nil
}

func bad(v float64) bool { return math.IsNaN(v) || math.IsInf(v, 0) }

func sequence(s *sample.Sample) model.Sequence {
	w := make([]float32, len(s.Tokens))
	for _, r := range s.Loss {
		for i := r[0]; i < r[1]; i++ {
			w[i] = 1
		}
	}
	return model.Sequence{Tokens: s.Tokens, Weights: w}
}

// window is what has happened since the last line of the log.
type window struct {
	at              time.Time
	samples, tokens int64
}

func (t *trainer) newWindow() window { return window{time.Now(), t.state.Samples, t.state.Tokens} }

// log writes a line of the log and a metric event.
func (t *trainer) log(w window, norm, rate float64) {
	loss := t.state.WindowLoss / float64(t.state.WindowTargets)
	t.state.WindowLoss, t.state.WindowTargets = 0, 0
	t.state.Log.Steps = append(t.state.Log.Steps, history.Step{
		Step: t.state.Step, Epoch: t.state.Epoch, Loss: loss, LearningRate: rate, GradNorm: norm, Tokens: t.state.Tokens,
	})
	spent := max(time.Since(w.at).Seconds(), 1e-9)
	all := time.Since(t.began).Seconds()
	done := t.state.Step - t.resumedAt
	eta := all / float64(max(done, 1)) * float64(t.total-t.state.Step)
	step, epoch := int64(t.state.Step), t.state.Epoch
	samples, tokens := float64(t.state.Samples-w.samples)/spent, float64(t.state.Tokens-w.tokens)/spent
	t.emit.Emit(contract.Event{
		Level: contract.LevelMetric, Step: &step, Epoch: &epoch, Loss: &loss, LearningRate: &rate, GradNorm: &norm,
		SamplesPerSec: &samples, TokensPerSec: &tokens,
		Progress: &contract.Progress{Done: step, Total: int64(t.total), Unit: "steps", ETASeconds: eta},
	})
}

// evaluate measures the loss on the validation split.
func (t *trainer) evaluate() (loss float64, ok bool, err error) {
	if len(t.validation) == 0 {
		return 0, false, nil
	}
	var sum float64
	var targets, seen int
	report := progress.New(t.emit, "validation samples", int64(len(t.validation)), time.Now)
	for _, chunk := range t.evaluationBatches() {
		report.At(int64(seen)) // says nothing within the first half second
		seen += len(chunk)
		batch := make([]model.Sequence, 0, len(chunk))
		for i := range chunk {
			batch = append(batch, sequence(&chunk[i]))
		}
		s, n, err := t.engine.Loss(batch)
		if err != nil {
			return 0, false, fmt.Errorf("training: evaluation at step %d: %w", t.state.Step, err)
		}
		sum, targets = sum+s, targets+n
	}
	loss = sum / float64(targets)
	if bad(loss) {
		return 0, false, t.diverged(loss, 0)
	}
	// A resumed training has evaluated here before.
	if e := t.state.Log.Evaluations; len(e) == 0 || e[len(e)-1].Step != t.state.Step {
		t.state.Log.Evaluations = append(e, history.Evaluation{Step: t.state.Step, Epoch: t.state.Epoch, EvalLoss: loss})
	}
	step, epoch := int64(t.state.Step), t.state.Epoch
	t.emit.Emit(contract.Event{Level: contract.LevelMetric, Step: &step, Epoch: &epoch, EvalLoss: &loss})
	return loss, true, nil
}
