package native

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/engine"
	"github.com/tunemesh/tunemesh/trainer/optim"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// SaveState implements engine.Engine.
func (n *native) SaveState(dir string) error {
	if err := n.writeWeights(dir, weights.F32); err != nil {
		return err
	}
	return n.writeOptimizer(filepath.Join(dir, engine.OptimizerFile))
}

// Export implements engine.Engine.
func (n *native) Export(dir string) error { return n.writeWeights(dir, n.dtype) }

// writeWeights writes an adapter in PEFT's layout, or all weights in a dtype.
func (n *native) writeWeights(dir, dtype string) error {
	params := n.model.Params()
	if n.spec.Training.Method != "full" {
		tensors := make([]adapter.Tensor, 0, len(params))
		for _, p := range params {
			tensors = append(tensors, adapter.Tensor{Name: p.Name, Rows: p.Shape[0], Cols: p.Shape[1], Data: p.Data})
		}
		return adapter.Save(dir, n.spec.AdapterConfig(), tensors)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("training: %w", err)
	}
	infos, data := make([]weights.TensorInfo, 0, len(params)), map[string][]float32{}
	for _, p := range params {
		infos = append(infos, weights.TensorInfo{Name: p.Name, DType: dtype, Shape: p.Shape})
		data[p.Name] = p.Data
	}
	return weights.WriteFloats(filepath.Join(dir, weights.SingleName), infos, named(data))
}

func (n *native) writeOptimizer(path string) error {
	slots := n.optim.State().Slots
	infos, data := make([]weights.TensorInfo, 0, len(slots)), map[string][]float32{}
	for _, s := range slots {
		infos = append(infos, weights.TensorInfo{Name: s.Name, DType: weights.F32, Shape: []int{len(s.Data)}})
		data[s.Name] = s.Data
	}
	return weights.WriteFloats(path, infos, named(data))
}

func named(data map[string][]float32) func(string) ([]float32, error) {
	return func(name string) ([]float32, error) { return data[name], nil }
}

// LoadState implements engine.Engine.
func (n *native) LoadState(dir string, updates int64) error {
	if err := n.readWeights(dir); err != nil {
		return err
	}
	f, err := weights.Open(filepath.Join(dir, engine.OptimizerFile))
	if err != nil {
		return err
	}
	defer f.Close()
	restored := optim.State{Step: updates}
	for _, s := range n.optim.State().Slots {
		values, _, err := f.Float32(s.Name)
		if err != nil {
			return err
		}
		restored.Slots = append(restored.Slots, optim.Slot{Name: s.Name, Data: values})
	}
	return n.optim.Restore(restored)
}

func (n *native) readWeights(dir string) error {
	file := adapter.WeightsName
	if n.spec.Training.Method == "full" {
		file = weights.SingleName
	}
	f, err := weights.Open(filepath.Join(dir, file))
	if err != nil {
		return err
	}
	defer f.Close()
	for _, p := range n.model.Params() {
		values, _, err := f.Float32(p.Name)
		if err != nil {
			return err
		}
		if len(values) != len(p.Data) {
			return &contract.Error{Class: contract.ClassInternal, Code: "CHECKPOINT_SHAPE", Message: fmt.Sprintf("%s has %d values, want %d", p.Name, len(values), len(p.Data))}
		}
		copy(p.Data, values)
	}
	return nil
}
