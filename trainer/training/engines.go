package training

import (
	"context"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/engine"
	"github.com/tunemesh/tunemesh/trainer/engine/native"
	"github.com/tunemesh/tunemesh/trainer/engine/peft"
)

// engines are those of this build.
var engines = map[string]engine.Open{engine.Native: native.Open, engine.PEFT: peft.Open}

// engineName is what the config says; where it leaves that open, what the
// placement chose, and by hand, without a placement, what suits the devices.
func (t *trainer) engineName(in contract.Input) string {
	c := t.config.Training
	if _, known := engines[in.Devices.Engine]; known && c.Engine == engine.Auto {
		return in.Devices.Engine
	}
	return c.EngineFor(len(in.Devices.GPUs))
}

// open opens the engine.
func (t *trainer) open(ctx context.Context, in contract.Input) error {
	open := engines[t.engineName(in)]
	var err error
	if t.engine, err = open(ctx, engine.Spec{
		ModelName: t.config.Model, ModelDir: t.modelDir, Shape: t.shape, Training: t.config.Training, Seed: t.config.Seed,
		Initial: t.initial, Origin: t.origin(in),
		Recompute: t.recompute, MaxTokens: t.maxTokens,
		Devices: in.Devices, ScratchDir: in.ScratchDir, Emit: t.emit,
	}); err != nil {
		return err
	}
	d := t.engine.Describe()
	fields := map[string]any{
		"method": t.config.Training.Method, "device": d.Device, "threads": d.Threads, "weights": d.Arithmetic,
		"trainable_parameters": d.Trainable, "base_parameters": d.Parameters,
		"samples": len(t.train), "steps": t.total, "warmup_steps": t.rate.Warmup, "learning_rate": t.config.Training.LearningRate,
	}
	if d.Version != "" {
		fields["version"] = d.Version
	}
	if d.Workers > 1 {
		fields["workers"] = d.Workers
	}
	t.emit.Info("training with the engine "+d.Engine, fields)
	return nil
}
