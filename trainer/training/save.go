package training

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/optim"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// checkpoint saves everything that the rest of the training depends on.
func (t *trainer) checkpoint(name string, announce bool) error {
	err := t.store.Save(name, func(dir string) error {
		if err := t.writeWeights(dir, false); err != nil {
			return err
		}
		if err := t.writeOptimizer(filepath.Join(dir, optimizerName)); err != nil {
			return err
		}
		t.state.OptimStep = t.optim.Steps()
		data, err := json.Marshal(t.state)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(dir, stateName), data, 0o644)
	})
	if err != nil {
		return err
	}
	if announce {
		step := int64(t.state.Step)
		t.emit.Emit(contract.Event{Level: contract.LevelInfo, Message: "checkpoint " + name, Step: &step, Checkpoint: name})
	}
	return t.store.Prune()
}

// writeWeights writes what was trained into dir: an adapter in PEFT's layout, or
// all weights. For export a full model becomes a folder that can be loaded: its
// dtype again, with config and tokenizer; a checkpoint keeps every bit.
func (t *trainer) writeWeights(dir string, export bool) error {
	c := t.config.Training
	params := t.model.Params()
	if c.Method == "lora" {
		tensors := make([]adapter.Tensor, 0, len(params))
		for _, p := range params {
			tensors = append(tensors, adapter.Tensor{Name: p.Name, Rows: p.Shape[0], Cols: p.Shape[1], Data: p.Data})
		}
		targets := c.TargetModules
		if len(targets) == 1 && targets[0] == "all-linear" {
			targets = contract.TargetModules
		}
		return adapter.Save(dir, adapter.NewConfig(t.config.Model, c.Rank, c.Alpha, c.Dropout, c.RSLoRA, targets), tensors)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("training: %w", err)
	}
	dtype := weights.F32
	if export {
		dtype = t.dtype
	}
	infos := make([]weights.TensorInfo, 0, len(params))
	for _, p := range params {
		infos = append(infos, weights.TensorInfo{Name: p.Name, DType: dtype, Shape: p.Shape})
	}
	w, err := weights.NewWriter(filepath.Join(dir, weights.SingleName), infos, nil)
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, p := range params {
		if err := w.WriteFloat32(p.Name, p.Data); err != nil {
			return err
		}
	}
	if err := w.Close(); err != nil || !export {
		return err
	}
	return t.copyModelFiles(dir)
}

// copyModelFiles takes over what a model's folder holds besides weights.
func (t *trainer) copyModelFiles(dir string) error {
	entries, err := os.ReadDir(t.modelDir)
	if err != nil {
		return fmt.Errorf("training: %w", err)
	}
	for _, e := range entries {
		if filepath.Ext(e.Name()) != ".json" || e.Name() == weights.IndexName {
			continue
		}
		if err := copyFile(filepath.Join(t.modelDir, e.Name()), filepath.Join(dir, e.Name())); err != nil {
			return err
		}
	}
	return nil
}

func (t *trainer) writeOptimizer(path string) error {
	slots := t.optim.State().Slots
	infos := make([]weights.TensorInfo, 0, len(slots))
	for _, s := range slots {
		infos = append(infos, weights.TensorInfo{Name: s.Name, DType: weights.F32, Shape: []int{len(s.Data)}})
	}
	w, err := weights.NewWriter(path, infos, nil)
	if err != nil {
		return err
	}
	defer w.Abort()
	for _, s := range slots {
		if err := w.WriteFloat32(s.Name, s.Data); err != nil {
			return err
		}
	}
	return w.Close()
}

// resume goes on from the newest checkpoint of this very training, if there is
// one.
func (t *trainer) resume() error {
	name, state, err := t.store.Newest(t.fingerprint, func(name, reason string) {
		t.emit.Warn("CHECKPOINT_SKIPPED", fmt.Sprintf("checkpoint %s is passed over: %s", name, reason), nil)
	})
	if err != nil || name == "" {
		return err
	}
	dir := filepath.Join(t.store.Dir, name)
	if err := t.readWeights(dir); err != nil {
		return err
	}
	f, err := weights.Open(filepath.Join(dir, optimizerName))
	if err != nil {
		return fmt.Errorf("training: checkpoint %s: %w", name, err)
	}
	defer f.Close()
	restored := optim.State{Step: state.OptimStep}
	for _, s := range t.optim.State().Slots {
		values, _, err := f.Float32(s.Name)
		if err != nil {
			return fmt.Errorf("training: checkpoint %s: %w", name, err)
		}
		restored.Slots = append(restored.Slots, optim.Slot{Name: s.Name, Data: values})
	}
	if err := t.optim.Restore(restored); err != nil {
		return fmt.Errorf("training: checkpoint %s: %w", name, err)
	}
	t.state, t.resumedAt = state, state.Step
	t.emit.Info(fmt.Sprintf("going on from checkpoint %s at step %d of %d", name, state.Step, t.total), map[string]any{"checkpoint": name, "step": state.Step})
	return nil
}

// readWeights is the reverse of writeWeights for a checkpoint.
func (t *trainer) readWeights(dir string) error {
	file := weights.SingleName
	if t.config.Training.Method == "lora" {
		file = adapter.WeightsName
	}
	f, err := weights.Open(filepath.Join(dir, file))
	if err != nil {
		return fmt.Errorf("training: checkpoint: %w", err)
	}
	defer f.Close()
	for _, p := range t.model.Params() {
		values, _, err := f.Float32(p.Name)
		if err != nil {
			return fmt.Errorf("training: checkpoint: %w", err)
		}
		if len(values) != len(p.Data) {
			return fmt.Errorf("training: checkpoint: %s has %d values, want %d", p.Name, len(values), len(p.Data))
		}
		copy(p.Data, values)
	}
	return nil
}
