package training_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/training"
)

func trained(t *testing.T, in contract.Input) (training.Summary, stagetest.Log) {
	t.Helper()
	result, log, err := stagetest.Run(t.Context(), t, training.Run, in)
	if err != nil {
		t.Fatal(err)
	}
	return result.Output[training.OutputKey].(training.Summary), log
}

func warned(log stagetest.Log, code string) bool {
	_, ok := log.Warning(code)
	return ok
}

func said(log stagetest.Log, words string) bool {
	for _, e := range log.Events {
		if strings.Contains(e.Message, words) {
			return true
		}
	}
	return false
}

// A training that overfits: ten samples by heart, and others to be measured by.
const overfits = `{"model":"tiny","export":{"skip_merged":true},"training":{%s"epochs":30,"batch_size":5,"gradient_accumulation":1,"rank":8,"learning_rate":0.03,"schedule":"constant","warmup_ratio":0,"logging_steps":1,"max_eval_samples":40}}`

func overfitting(t *testing.T, settings string) contract.Input {
	return jobWith(t, fmt.Sprintf(overfits, settings), tinyShape(), samples(10, 1), samples(60, 2))
}

// What goes out is what the checkpoint of the best evaluation holds.
func TestTheBestWeightsGoOut(t *testing.T) {
	in := overfitting(t, "")
	s, log := trained(t, in)
	if !(s.BestEvalLoss < s.FinalEvalLoss) || s.ExportedStep != s.BestStep || s.BestStep >= s.Steps || !said(log, fmt.Sprintf("the weights of step %d go out", s.BestStep)) {
		t.Fatalf("best %.3f at step %d, last %.3f at step %d, exported %d", s.BestEvalLoss, s.BestStep, s.FinalEvalLoss, s.Steps, s.ExportedStep)
	}
	kept, err := os.ReadFile(filepath.Join(in.CheckpointDir, fmt.Sprintf("epoch_%d", s.BestStep/2), adapter.WeightsName))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(weightsOf(t, in), kept) {
		t.Error("what went out is not what the best checkpoint holds")
	}
	if !said(log, "measured on 40 of the 60 validation samples") {
		t.Error("nobody says that not all validation samples are used")
	}
	last := overfitting(t, `"load_best":false,`)
	if s, _ := trained(t, last); s.ExportedStep != s.Steps || bytes.Equal(weightsOf(t, last), kept) {
		t.Errorf("without load_best step %d of %d went out", s.ExportedStep, s.Steps)
	}
}

// The best checkpoint between two epochs outlives the ones that follow it.
func TestTheBestOfManyEvaluationsIsKept(t *testing.T) {
	in := jobWith(t, strings.Replace(fmt.Sprintf(overfits, `"evaluations_per_epoch":4,"checkpoint_steps":1,`), `"epochs":30`, `"epochs":6`, 1), tinyShape(), samples(60, 1), samples(20, 9))
	s, log := trained(t, in)
	if s.ExportedStep != s.BestStep {
		t.Errorf("step %d went out, the best is %d", s.ExportedStep, s.BestStep)
	}
	if _, missing := log.Warning("BEST_CHECKPOINT_MISSING"); missing {
		t.Error("the best checkpoint was lost")
	}
	if s.BestStep%12 == 0 {
		t.Skipf("the best evaluation was the one at the end of an epoch, step %d", s.BestStep)
	}
	if _, err := os.Stat(filepath.Join(in.CheckpointDir, fmt.Sprintf("step_%d", s.BestStep))); err != nil {
		t.Error(err)
	}
}

func TestTrainingStopsEarly(t *testing.T) {
	in := overfitting(t, `"early_stopping_patience":3,`)
	s, log := trained(t, in)
	if !s.EarlyStopped || s.Steps >= 60 || s.ExportedStep != s.BestStep || !said(log, "training ends early") {
		t.Fatalf("%+v", s)
	}
	if s.Steps != s.BestStep+3*2 {
		t.Errorf("stopped at step %d; three evaluations, 2 steps apart, after the best at %d is %d", s.Steps, s.BestStep, s.BestStep+6)
	}
	// Started again, as after a crash during the upload, it does not go on.
	want := weightsOf(t, in)
	if again, _ := trained(t, in); again.Steps != s.Steps || !again.EarlyStopped || !bytes.Equal(weightsOf(t, in), want) {
		t.Errorf("started again it ends at %+v", again)
	}
	// A delta that nothing can beat ends it at once.
	if s, _ := trained(t, overfitting(t, `"early_stopping_patience":2,"early_stopping_min_delta":100,`)); s.Steps != 4 {
		t.Errorf("two evaluations that cannot be better: %d steps, want 4", s.Steps)
	}
}

// Zero is a seed like any other.
func TestSeedZeroIsASeed(t *testing.T) {
	run := func(seed string) []byte {
		in := job(t, strings.Replace(fmt.Sprintf(config, ""), `{"model"`, `{`+seed+`"model"`, 1))
		trained(t, in)
		return weightsOf(t, in)
	}
	zero, zeroAgain, def, fortyTwo := run(`"seed":0,`), run(`"seed":0,`), run(``), run(`"seed":42,`)
	if !bytes.Equal(zero, zeroAgain) || bytes.Equal(zero, def) || !bytes.Equal(def, fortyTwo) {
		t.Error("seed 0 is not a seed of its own")
	}
}

// A training whose loss explodes warns and goes on, or stops where the config says
// so, with the last good checkpoint kept and named.
func TestAnExplodingLossIsSeen(t *testing.T) {
	const explodes = `{"model":"tiny","export":{"skip_merged":true},"training":{%s"method":"full","epochs":6,"batch_size":5,"gradient_accumulation":1,"learning_rate":1,"max_grad_norm":0,"schedule":"linear","warmup_ratio":0.9,"logging_steps":1,"checkpoint_steps":10}}`
	in := jobWith(t, fmt.Sprintf(explodes, ""), tinyShape(), samples(200, 1), samples(8, 2))
	_, log, err := stagetest.Run(t.Context(), t, training.Run, in)
	e, ok := log.Warning("LOSS_EXPLODING")
	if !ok || e.Fields["loss"] == nil || e.Fields["median"] == nil {
		t.Fatalf("no warning: %v", err)
	}
	in = jobWith(t, fmt.Sprintf(explodes, `"on_divergence":"stop",`), tinyShape(), samples(200, 1), samples(8, 2))
	_, err = training.Run(t.Context(), in, contract.NewEmitter(io.Discard, "TestAgent", time.Now))
	var stopped *contract.Error
	if !errors.As(err, &stopped) || stopped.Code != "LOSS_EXPLODING" || stopped.Class.Retryable() || stopped.Field == "" {
		t.Fatalf("%v", err)
	}
	name, _ := stopped.Figures["checkpoint"].(string)
	if _, err := os.Stat(filepath.Join(in.CheckpointDir, name, "checksums.json")); err != nil || name == "" || !strings.Contains(stopped.Message, name) {
		t.Errorf("the last good checkpoint: %q, %v", name, err)
	}
	flat := jobWith(t, `{"model":"tiny","export":{"skip_merged":true},"training":{"epochs":3,"batch_size":5,"gradient_accumulation":1,"learning_rate":1e-9,"warmup_ratio":0}}`, tinyShape(), samples(200, 1), samples(8, 2))
	if _, log := trained(t, flat); !warned(log, "LOSS_FLAT") {
		t.Error("a learning rate of almost nothing is not noticed")
	}
}
