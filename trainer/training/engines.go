package training

import (
	"context"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/engine"
	"github.com/tunemesh/tunemesh/trainer/engine/native"
)

// open opens the engine that the placement chose.
func (t *trainer) open(ctx context.Context, in contract.Input) error {
	var err error
	if t.engine, err = native.Open(ctx, engine.Spec{
		ModelName: t.config.Model, ModelDir: t.modelDir, Shape: t.shape, Training: t.config.Training, Seed: t.config.Seed,
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
