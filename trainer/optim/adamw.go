package optim

import (
	"fmt"
	"math"

	"github.com/tunemesh/tunemesh/trainer/kernel"
)

// AdamWConfig holds AdamW's constants. The learning rate is given per step.
type AdamWConfig struct {
	Beta1, Beta2 float64
	Eps          float64
	WeightDecay  float64
}

// DefaultAdamW returns PyTorch's defaults, but for the weight decay, which is 0:
// LoRA's B starts at zero and is seldom decayed.
func DefaultAdamW() AdamWConfig {
	return AdamWConfig{Beta1: 0.9, Beta2: 0.999, Eps: 1e-8}
}

// Validate says which constant is out of range.
func (c AdamWConfig) Validate() error {
	switch {
	case !(c.Beta1 >= 0 && c.Beta1 < 1):
		return fmt.Errorf("optim: beta1 = %g, must be in [0, 1)", c.Beta1)
	case !(c.Beta2 >= 0 && c.Beta2 < 1):
		return fmt.Errorf("optim: beta2 = %g, must be in [0, 1)", c.Beta2)
	case !(c.Eps > 0):
		return fmt.Errorf("optim: eps = %g, must be positive", c.Eps)
	case !(c.WeightDecay >= 0):
		return fmt.Errorf("optim: weight decay = %g, must not be negative", c.WeightDecay)
	}
	return nil
}

// AdamW is Adam with decoupled weight decay (Loshchilov and Hutter, arXiv
// 1711.05101), with the semantics of torch.optim.AdamW without amsgrad:
//
//	w ← w·(1 − lr·wd)
//	m ← β1·m + (1−β1)·g        v ← β2·v + (1−β2)·g²
//	w ← w − lr/(1−β1ᵗ) · m / (√v/√(1−β2ᵗ) + ε)
//
// It is not safe for concurrent use.
type AdamW struct {
	cfg     AdamWConfig
	eng     *kernel.Engine
	tensors []Tensor
	m, v    [][]float32
	step    int64
}

// NewAdamW makes an optimiser over the tensors, whose order and names must stay
// the same across a checkpoint.
func NewAdamW(tensors []Tensor, cfg AdamWConfig) (*AdamW, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	o := &AdamW{cfg: cfg, tensors: tensors, eng: kernel.New(kernel.Best())}
	for _, t := range tensors {
		if len(t.Data) != len(t.Grad) {
			return nil, fmt.Errorf("optim: tensor %s has %d values but %d gradients", t.Name, len(t.Data), len(t.Grad))
		}
		o.m = append(o.m, make([]float32, len(t.Data)))
		o.v = append(o.v, make([]float32, len(t.Data)))
	}
	return o, nil
}

// Steps returns how many steps were taken.
func (o *AdamW) Steps() int64 { return o.step }

// Step applies one update with learning rate lr and leaves the gradients as
// they are.
func (o *AdamW) Step(lr float64) {
	o.step++
	c := o.cfg
	bias1 := 1 - math.Pow(c.Beta1, float64(o.step))
	bias2 := math.Sqrt(1 - math.Pow(c.Beta2, float64(o.step)))
	k := kernel.AdamConst{
		Beta1: float32(c.Beta1), OneMinus1: float32(1 - c.Beta1),
		Beta2: float32(c.Beta2), OneMinus2: float32(1 - c.Beta2),
		Size: float32(lr / bias1), InvBias2: float32(1 / bias2), Eps: float32(c.Eps),
	}
	for i, t := range o.tensors {
		k.Keep = 1
		if !t.NoDecay {
			k.Keep = float32(1 - lr*c.WeightDecay)
		}
		o.eng.AdamW(t.Data, t.Grad, o.m[i], o.v[i], k)
	}
}
