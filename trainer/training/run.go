package training

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime/debug"
	"time"

	"github.com/tunemesh/tunemesh/failpoint"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset"
	"github.com/tunemesh/tunemesh/trainer/machine"
	"github.com/tunemesh/tunemesh/trainer/training/history"
)

// OutputKey is the key of Summary in this stage's output.
const OutputKey = "training"

// Names of the artifacts: an adapter's folder, or that of a whole model.
const (
	AdapterFolder = "adapter"
	FullFolder    = "full"
)

// Summary is the stage's output under OutputKey.
type Summary struct {
	Engine          string   `json:"engine"`
	Device          string   `json:"device"`
	Method          string   `json:"method"`
	Steps           int      `json:"steps"`
	Epochs          float64  `json:"epochs"`
	Samples         int64    `json:"samples"`       // seen, with repetitions
	Tokens          int64    `json:"tokens"`        // seen, with repetitions, prompts included
	LearningRate    float64  `json:"learning_rate"` // the schedule's peak
	TrainableParams int64    `json:"trainable_parameters"`
	BaseParams      int64    `json:"base_parameters"`
	FirstLoss       float64  `json:"first_loss"`
	FinalLoss       float64  `json:"final_loss"`
	FirstEvalLoss   float64  `json:"first_eval_loss,omitempty"`
	FinalEvalLoss   float64  `json:"final_eval_loss,omitempty"`
	BestEvalLoss    float64  `json:"best_eval_loss,omitempty"` // of the trained model
	BestStep        int      `json:"best_step,omitempty"`
	ExportedStep    int      `json:"exported_step"` // whose weights went out
	EarlyStopped    bool     `json:"early_stopped,omitempty"`
	BatchSize       int      `json:"batch_size"`
	GradientAccum   int      `json:"gradient_accumulation"`
	PackingTokens   int      `json:"packing_tokens,omitempty"` // most tokens of a micro-batch; by batch_size where there is none
	BasePrecision   string   `json:"base_precision"`
	Compute         string   `json:"compute,omitempty"` // of the engine native
	Bits            []string `json:"bits,omitempty"`    // what computed it; more than one where it went on by other means
	ResumedAt       int      `json:"resumed_at_step,omitempty"`
	TokensPerSec    float64  `json:"tokens_per_sec"`
	SamplesPerSec   float64  `json:"samples_per_sec"`

	// Continued is the adapter that the training went on from; none where it made a
	// new one.
	Continued *Continued `json:"continued_adapter,omitempty"`
}

// Run is the stage. It needs the base model, and the artifacts train.jsonl and
// validation.jsonl of an ancestor.
func Run(ctx context.Context, in contract.Input, emit *contract.Emitter) (contract.Result, error) {
	return Stage{FreeMemory: machine.FreeMemory}.Run(ctx, in, emit)
}

// Stage is the stage with what it asks of the machine.
type Stage struct {
	// FreeMemory is what a training may fill, in bytes; 0 if that is not known.
	FreeMemory func() int64
}

// heapPercent bounds how far the heap runs over what is in use: it consists of a
// few large buffers, which cost the collector nothing.
const heapPercent = 5

// Run is Run on this machine.
func (s Stage) Run(ctx context.Context, in contract.Input, emit *contract.Emitter) (contract.Result, error) {
	defer debug.SetGCPercent(debug.SetGCPercent(heapPercent))
	c, err := dataset.Config(in)
	if err != nil {
		return contract.Result{}, err
	}
	t, err := prepare(in, c)
	if err != nil {
		return contract.Result{}, err
	}
	defer t.close()
	t.emit, t.memory = emit, s.FreeMemory
	if err := t.ready(in); err != nil {
		return contract.Result{}, err
	}
	if err := t.open(ctx, in); err != nil {
		return contract.Result{}, err
	}
	if err := t.resume(); err != nil {
		return contract.Result{}, err
	}
	if err := t.loop(ctx); err != nil {
		return contract.Result{}, err
	}
	return t.finish(in)
}

// finish writes the artifacts and says what came of it.
func (t *trainer) finish(in contract.Input) (contract.Result, error) {
	artifacts := map[string]contract.Artifact{history.FileName: {Path: history.FileName}}
	folder := AdapterFolder
	if t.config.Training.Method == "full" {
		folder = FullFolder
	}
	exported, err := t.loadBest()
	if err != nil {
		return contract.Result{}, err
	}
	if err := t.export(filepath.Join(in.OutputDir, folder)); err != nil {
		return contract.Result{}, err
	}
	artifacts[folder] = contract.Artifact{Path: folder, Place: contract.PlaceAdapter}
	if err := t.state.Log.Write(filepath.Join(in.OutputDir, history.FileName)); err != nil {
		return contract.Result{}, err
	}
	if err := failpoint.At(failpoint.ResultUnwritten); err != nil {
		return contract.Result{}, err
	}
	s := t.summary()
	s.ExportedStep = exported
	return contract.Result{
		Output:    map[string]any{OutputKey: s},
		Artifacts: artifacts,
		Metrics:   map[string]float64{"loss": s.FinalLoss, "tokens_per_sec": s.TokensPerSec, "samples_per_sec": s.SamplesPerSec, "steps": float64(s.Steps)},
	}, nil
}

func (t *trainer) summary() Summary {
	d := t.engine.Describe()
	s := Summary{
		Engine: d.Engine, Device: d.Device, Method: t.config.Training.Method, Steps: t.state.Step, Epochs: t.state.Epoch,
		Samples: t.state.Samples, Tokens: t.state.Tokens, TrainableParams: d.Trainable, BaseParams: d.Parameters,
		LearningRate: t.config.Training.LearningRate,
		FirstLoss:    t.state.FirstLoss, ResumedAt: t.resumedAt,
	}
	if n := len(t.state.Log.Steps); n > 0 {
		s.FinalLoss = t.state.Log.Steps[n-1].Loss
	}
	if e := t.state.Log.Evaluations; len(e) > 0 {
		s.FirstEvalLoss, s.FinalEvalLoss = e[0].EvalLoss, e[len(e)-1].EvalLoss
	}
	if best := t.state.Best; best != nil {
		s.BestEvalLoss, s.BestStep = best.EvalLoss, best.Step
	}
	s.EarlyStopped = t.state.Stopped
	s.BatchSize, s.GradientAccum, s.BasePrecision = t.config.Training.BatchSize, t.config.Training.GradientAccum, t.config.Training.BasePrecision
	s.PackingTokens, s.Compute = t.config.Training.PackingTokens, t.config.Training.Compute
	s.Bits, s.Continued = t.state.Bits, t.continued
	if spent := time.Since(t.began).Seconds(); spent > 0 {
		s.TokensPerSec = float64(t.state.Tokens-t.startTokens) / spent
		s.SamplesPerSec = float64(t.state.Samples-t.startSamples) / spent
	}
	return s
}

// copyFile copies one file of a model's folder.
func copyFile(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return fmt.Errorf("training: %w", err)
	}
	if err := os.WriteFile(to, data, 0o644); err != nil {
		return fmt.Errorf("training: %w", err)
	}
	return nil
}
