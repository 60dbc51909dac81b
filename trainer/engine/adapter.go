package engine

import (
	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

// AdapterConfig is the adapter_config.json that every engine writes.
func (s Spec) AdapterConfig() adapter.Config {
	c := s.Training
	targets := c.TargetModules
	if len(targets) == 1 && targets[0] == "all-linear" {
		targets = contract.TargetModules
	}
	config := adapter.NewConfig(s.ModelName, c.Rank, c.Alpha, c.Dropout, c.RSLoRA, targets)
	config.Origin = s.Origin
	return config
}
