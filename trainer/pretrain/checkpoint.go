package pretrain

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"

	"github.com/tunemesh/tunemesh/trainer/optim"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// A checkpoint is one safetensors file, which appears whole or not at all: the
// weights under their names, the moments under theirs, the step and the recipe
// in the metadata.
func (r *run) checkpoint() string { return filepath.Join(r.Work, "checkpoint.safetensors") }

func (r *run) save() error {
	state := r.optim.State()
	var infos []weights.TensorInfo
	var data [][]float32
	for _, p := range r.model.Params() {
		infos, data = append(infos, weights.TensorInfo{Name: p.Name, DType: weights.F32, Shape: p.Shape}), append(data, p.Data)
	}
	for _, s := range state.Slots {
		infos, data = append(infos, weights.TensorInfo{Name: s.Name, DType: weights.F32, Shape: []int{len(s.Data)}}), append(data, s.Data)
	}
	w, err := weights.NewWriter(r.checkpoint(), infos, map[string]string{"step": strconv.FormatInt(state.Step, 10), "recipe": r.fingerprint()})
	if err != nil {
		return err
	}
	defer w.Abort()
	for i, info := range infos {
		if err := w.WriteFloat32(info.Name, data[i]); err != nil {
			return err
		}
	}
	return w.Close()
}

// restore goes on from a checkpoint, if there is one of this recipe.
func (r *run) restore() error {
	f, err := weights.Open(r.checkpoint())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if f.Metadata()["recipe"] != r.fingerprint() {
		r.Log.Warn("the checkpoint is of another recipe: starting over", "path", r.checkpoint())
		return nil
	}
	step, err := strconv.ParseInt(f.Metadata()["step"], 10, 64)
	if err != nil {
		return fmt.Errorf("pretrain: checkpoint %s: step: %w", r.checkpoint(), err)
	}
	for _, p := range r.model.Params() {
		values, _, err := f.Float32(p.Name)
		if err != nil {
			return err
		}
		copy(p.Data, values)
	}
	state := optim.State{Step: step}
	for _, s := range r.optim.State().Slots {
		values, _, err := f.Float32(s.Name)
		if err != nil {
			return err
		}
		state.Slots = append(state.Slots, optim.Slot{Name: s.Name, Data: values})
	}
	r.Log.Info("going on", "step", step)
	return r.optim.Restore(state)
}

// fingerprint tells recipes apart whose checkpoints do not fit each other.
func (r *run) fingerprint() string {
	return fmt.Sprintf("%+v %d %d %d %g %d %g %d rows=%d", r.Shape.NumParams(), r.RowTokens, r.RowsPerStep, r.Steps, r.PeakRate, r.Warmup, r.WeightDecay, r.Seed, len(r.train))
}
