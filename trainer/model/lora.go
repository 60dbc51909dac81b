package model

import (
	"fmt"
	"math"
	"slices"
)

// LoRAConfig describes the adapters to add (Hu et al., arXiv 2106.09685): each
// targeted linear layer computes W·x + s·B·(A·drop(x)), with s = Alpha/Rank, or
// Alpha/√Rank when RSLoRA is set. Field meanings are PEFT's.
type LoRAConfig struct {
	Rank    int
	Alpha   float64
	Dropout float64
	RSLoRA  bool
	// TargetModules holds "all-linear" or any of q_proj, k_proj, v_proj, o_proj,
	// gate_proj, up_proj, down_proj.
	TargetModules []string
}

// Scale returns s.
func (c LoRAConfig) Scale() float64 {
	if c.RSLoRA {
		return c.Alpha / math.Sqrt(float64(c.Rank))
	}
	return c.Alpha / float64(c.Rank)
}

// Validate says which field is wrong.
func (c LoRAConfig) Validate() error {
	switch {
	case c.Rank < 1 || c.Rank > 4096:
		return fmt.Errorf("model: LoRA rank %d must be in 1..4096", c.Rank)
	case !(c.Alpha > 0) || math.IsInf(c.Alpha, 0):
		return fmt.Errorf("model: LoRA alpha %g must be positive", c.Alpha)
	case !(c.Dropout >= 0 && c.Dropout < 1):
		return fmt.Errorf("model: LoRA dropout %g must be in [0, 1)", c.Dropout)
	}
	_, err := c.targets()
	return err
}

// targets returns which linear layers get an adapter.
func (c LoRAConfig) targets() (t [numLinears]bool, err error) {
	if len(c.TargetModules) == 0 {
		return t, fmt.Errorf("model: LoRA needs target modules: all-linear, or some of %v", linearNames)
	}
	for _, name := range c.TargetModules {
		if name == "all-linear" {
			for i := range t {
				t[i] = true
			}
			continue
		}
		i := slices.Index(linearNames[:], name)
		if i < 0 {
			return t, fmt.Errorf("model: LoRA target %q is not a linear layer of this model: use all-linear, or some of %v", name, linearNames)
		}
		t[i] = true
	}
	return t, nil
}
