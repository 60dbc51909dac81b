package native

import (
	"context"
	"fmt"
	"math"
	"runtime"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/engine"
	"github.com/tunemesh/tunemesh/trainer/kernel"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/optim"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

type native struct {
	spec    engine.Spec
	weights *weights.File
	dtype   string // of the base model
	model   *model.Model
	tensors []optim.Tensor
	optim   *optim.AdamW
}

// Open loads the model and sets up what is trained.
func Open(_ context.Context, s engine.Spec) (engine.Engine, error) {
	n := &native{spec: s}
	if err := n.load(); err != nil {
		_ = n.Close()
		return nil, err
	}
	for _, p := range n.model.Params() {
		n.tensors = append(n.tensors, optim.Tensor{Name: p.Name, Data: p.Data, Grad: p.Grad, NoDecay: p.Norm})
	}
	settings := optim.DefaultAdamW()
	settings.WeightDecay = s.Training.WeightDecay
	var err error
	if n.optim, err = optim.NewAdamW(n.tensors, settings); err != nil {
		_ = n.Close()
		return nil, err
	}
	return n, nil
}

func (n *native) load() error {
	var err error
	if n.weights, err = weights.Open(n.spec.ModelDir); err != nil {
		return fmt.Errorf("training: base model: %w", err)
	}
	if names := n.weights.Names(); len(names) > 0 {
		info, _ := n.weights.Info(names[0])
		n.dtype = info.DType
	}
	c := n.spec.Training
	if n.model, err = model.LoadAs(n.spec.Shape, n.weights, precision(c)); err != nil {
		return &contract.Error{Class: contract.ClassUnsupported, Code: "MODEL_DAMAGED", Message: err.Error(), Field: "model"}
	}
	n.model.SetRecompute(n.spec.Recompute)
	n.model.SetRounding(c.Compute == "bf16")
	if c.Method == "full" {
		err = n.model.TrainAll()
	} else {
		err = n.model.AddLoRA(model.LoRAConfig{Rank: c.Rank, Alpha: c.Alpha, Dropout: c.Dropout, RSLoRA: c.RSLoRA, TargetModules: c.TargetModules}, n.spec.Seed)
	}
	if err == nil {
		err = n.initial()
	}
	if err != nil {
		return &contract.Error{Class: contract.ClassConfig, Code: "INVALID_CONFIG", Message: err.Error(), Field: "training"}
	}
	n.model.Reserve(n.spec.MaxTokens)
	return nil
}

// initial gives the adapter its first values, where they are not the seed's.
func (n *native) initial() error {
	if len(n.spec.Initial) == 0 {
		return nil
	}
	values := map[string][]float32{}
	for _, t := range n.spec.Initial {
		values[t.Name] = t.Data
	}
	for _, p := range n.model.Params() {
		if len(values[p.Name]) != len(p.Data) {
			return fmt.Errorf("the adapter to go on from has %d values for %s, want %d", len(values[p.Name]), p.Name, len(p.Data))
		}
		copy(p.Data, values[p.Name])
	}
	return nil
}

// precision is how the base lies in memory; auto is as it is stored.
func precision(c contract.TrainingConfig) model.Precision {
	switch {
	case c.Method == "full":
		return model.F32
	case c.BasePrecision == "auto":
		return model.Stored
	}
	return model.Precision(c.BasePrecision)
}

// Close implements engine.Engine.
func (n *native) Close() error {
	if n.weights == nil {
		return nil
	}
	err := n.weights.Close()
	n.weights = nil
	return err
}

// Describe implements engine.Engine.
func (n *native) Describe() engine.Description {
	d := engine.Description{
		Engine: engine.Native, Device: "cpu", Threads: runtime.GOMAXPROCS(0), Workers: 1,
		Arithmetic: n.arithmetic(), Bits: n.bits(),
		Parameters: n.spec.Shape.NumParams(),
	}
	for _, p := range n.model.Params() {
		d.Trainable += int64(len(p.Data))
	}
	return d
}

func (n *native) arithmetic() string {
	words := n.dtype + " as stored"
	if p := precision(n.spec.Training); p != model.Stored {
		words = fmt.Sprintf("%s, stored as %s", p, n.dtype)
	}
	arithmetic := "f32"
	if n.spec.Training.Compute == "bf16" {
		arithmetic = "bf16 with sums in f32 where weights are frozen, else in f32,"
	}
	return fmt.Sprintf("%s, arithmetic in %s by the %s loops", words, arithmetic, n.model.Kernels())
}

// bits: the loops for AVX2, AVX-512 and AVX512_BF16 compute the same ones (DESIGN.md
// of trainer/kernel); those in Go do not, and on other architectures the compiler
// fuses where it likes.
func (n *native) bits() string {
	compute := "f32"
	if n.spec.Training.Compute == "bf16" {
		compute = "bf16"
	}
	loops := "x86-64 with AVX2 or AVX-512"
	if kernel.Best() == kernel.Pure {
		loops = "the Go loops on " + runtime.GOARCH
	}
	return fmt.Sprintf("native in %s by %s", compute, loops)
}

// Step implements engine.Engine.
func (n *native) Step(s engine.Step) (engine.Update, error) {
	n.model.ZeroGrad()
	var u engine.Update
	for i, batch := range s.Micro {
		n.model.SetStep(s.FirstMicro + uint64(i))
		sum, targets, err := n.model.LossAndGrad(batch)
		if err != nil {
			return u, err
		}
		u.LossSum, u.Targets = u.LossSum+sum, u.Targets+targets
	}
	u.Norm = optim.ScaleAndClip(n.tensors, 1/float64(u.Targets), s.MaxNorm)
	if finite(u.LossSum) && finite(u.Norm) {
		n.optim.Step(s.Rate)
	}
	return u, nil
}

// Loss implements engine.Engine.
func (n *native) Loss(batch []model.Sequence) (float64, int, error) {
	return n.model.Loss(batch)
}

func finite(v float64) bool { return !math.IsNaN(v) && !math.IsInf(v, 0) }
