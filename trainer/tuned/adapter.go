package tuned

import (
	"fmt"
	"math"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/model"
)

// Apply puts the PEFT adapter in dir over a model that has none. Every matrix of
// the model's adapter must be in the folder and every matrix of the folder in the
// model: one left out would count as zero and go unnoticed. Dropout is for
// training and stays off.
func Apply(m *model.Model, dir string) error {
	cfg, tensors, err := adapter.Load(dir)
	if err != nil {
		return broken(err)
	}
	err = m.AddLoRA(model.LoRAConfig{Rank: cfg.Rank, Alpha: cfg.Alpha, RSLoRA: cfg.UseRSLoRA, TargetModules: cfg.TargetModules}, 0)
	if err != nil {
		return broken(err)
	}
	byName, err := Fit(cfg, tensors, m.Params())
	if err != nil {
		return err
	}
	for _, p := range m.Params() {
		copy(p.Data, byName[p.Name].Data)
	}
	return nil
}

// Fit gives the adapter's matrices by name, once each of params has one of its shape,
// with finite values, and none is left over. An adapter that does not fit is a
// *contract.Error.
func Fit(cfg adapter.Config, tensors []adapter.Tensor, params []*model.Param) (map[string]adapter.Tensor, error) {
	byName := make(map[string]adapter.Tensor, len(tensors))
	for _, t := range tensors {
		byName[t.Name] = t
	}
	known := make(map[string]bool, len(params))
	for _, p := range params {
		known[p.Name] = true
		t, ok := byName[p.Name]
		if !ok {
			return nil, broken(fmt.Errorf("%s lacks the matrix %s, which target_modules %v ask for", adapter.WeightsName, p.Name, cfg.TargetModules))
		}
		if t.Rows != p.Shape[0] || t.Cols != p.Shape[1] {
			return nil, broken(fmt.Errorf("the matrix %s is %d x %d, the base model needs %d x %d: the adapter was made for another model", p.Name, t.Rows, t.Cols, p.Shape[0], p.Shape[1]))
		}
		for i, v := range t.Data {
			if f := float64(v); math.IsNaN(f) || math.IsInf(f, 0) {
				return nil, broken(fmt.Errorf("the matrix %s holds %v at %d: the training diverged, or the file is damaged", p.Name, v, i))
			}
		}
	}
	for name := range byName {
		if !known[name] {
			return nil, broken(fmt.Errorf("the matrix %s has no place in the base model: the adapter was made for another one", name))
		}
	}
	return byName, nil
}

func broken(err error) *contract.Error {
	return &contract.Error{
		Class: contract.ClassBadInput, Code: "BAD_ADAPTER", Message: err.Error(),
		Hint: "the adapter does not fit the job's base model: train it again with this one",
	}
}
