package training

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// checkpoint saves everything that the rest of the training depends on.
func (t *trainer) checkpoint(name string, announce bool) error {
	err := t.store.Save(name, func(dir string) error {
		if err := t.engine.SaveState(dir); err != nil {
			return err
		}
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
	keep := ""
	if t.state.Best != nil {
		keep = t.state.Best.Checkpoint
	}
	return t.store.Prune(keep)
}

// export writes the artifact: an adapter, or a whole model's folder that can be
// loaded, with config and tokenizer.
func (t *trainer) export(dir string) error {
	if err := t.engine.Export(dir); err != nil {
		return fmt.Errorf("training: %w", err)
	}
	if t.config.Training.Method != "full" {
		return nil
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

// find looks for the newest checkpoint of this very training.
func (t *trainer) find() (err error) {
	t.found, t.foundState, err = t.store.Newest(t.fingerprint, func(name, reason string) {
		t.emit.Warn("CHECKPOINT_SKIPPED", fmt.Sprintf("checkpoint %s is passed over: %s", name, reason), nil)
	})
	return err
}

// resume goes on from the checkpoint that was found, if there is one.
func (t *trainer) resume() error {
	bits := t.engine.Describe().Bits
	if t.found == "" {
		t.state.Bits = []string{bits}
		return nil
	}
	name, state, settled := t.found, t.foundState, t.state.Settled
	if err := t.engine.LoadState(filepath.Join(t.store.Dir, name), state.OptimStep); err != nil {
		return fmt.Errorf("training: checkpoint %s: %w", name, err)
	}
	t.state, t.resumedAt = state, state.Step
	t.state.Settled = settled
	t.emit.Info(fmt.Sprintf("going on from checkpoint %s at step %d of %d", name, state.Step, t.total), map[string]any{"checkpoint": name, "step": state.Step})
	t.compareBits(bits)
	return nil
}

// compareBits says so where the rest of a training is computed by other means than
// what it goes on from: it is as good, but its bits are those of no training that
// nothing interrupted.
func (t *trainer) compareBits(now string) {
	known := t.state.Bits
	if len(known) > 0 && known[len(known)-1] == now {
		return
	}
	t.state.Bits = append(slices.Clone(known), now)
	if len(known) == 0 {
		return // a checkpoint of a version that did not note it
	}
	before := known[len(known)-1]
	t.emit.Warn("BITS_CHANGE", fmt.Sprintf("the steps up to %d were computed by %s, the rest is by %s: losses agree to rounding, but the result is not bit for bit that of a training by one of them", t.state.Step, before, now),
		map[string]any{"step": t.state.Step, "before": before, "now": now})
}
