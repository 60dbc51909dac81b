package training

import (
	"cmp"
	"fmt"
	"runtime"
	"slices"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/engine"
	"github.com/tunemesh/tunemesh/trainer/kernel"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/plan"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// settle decides what the config leaves open by the machine and the data, and
// says why; a resumed training keeps what it began with. It refuses what does not
// fit into the memory.
func (t *trainer) settle(in contract.Input) error {
	if err := t.find(); err != nil {
		return err
	}
	c := t.config.Training
	if t.found != "" {
		s := t.foundState.Settled
		c.BatchSize, c.GradientAccum, c.BasePrecision, c.LearningRate = s.BatchSize, s.GradientAccum, s.BasePrecision, s.LearningRate
		c.PackingTokens = s.PackingTokens
		if c.Compute == contract.Computes[0] { // else as the config has it now
			c.Compute = cmp.Or(s.Compute, "f32")
		}
	}
	shape, err := t.planShape()
	if err != nil {
		return err
	}
	data := plan.Data{}
	for i := range t.train {
		data.Lengths = append(data.Lengths, len(t.train[i].Tokens))
	}
	native := t.engineName(in) == engine.Native
	out, err := t.fit(c, shape, data, in.Devices, native)
	if err != nil {
		return err
	}
	if !native && len(in.Devices.GPUs) > 0 { // only the engine can ask the card
		out.Settings = slices.DeleteFunc(out.Settings, func(s plan.Setting) bool { return s.Field == "training.base_precision" })
	}
	t.config.Training, t.recompute = out.Training, out.Recompute
	t.maxTokens, t.pads = out.Run.Tokens, !native
	t.state.Settled = Settled{BatchSize: out.Training.BatchSize, GradientAccum: out.Training.GradientAccum, PackingTokens: out.Training.PackingTokens,
		BasePrecision: out.Training.BasePrecision, LearningRate: out.Training.LearningRate, Compute: out.Training.Compute}
	for _, s := range out.Settings {
		fields := map[string]any{"field": s.Field, "value": s.Value}
		if s.Field == "memory" {
			fields["estimated_bytes"], fields["parts"] = out.Estimate.Total(), out.Estimate.Parts
		}
		t.emit.Info(fmt.Sprintf("%s is %s: %s", s.Field, s.Value, s.Reason), fields)
	}
	return nil
}

// fit settles within what the placement reserved; if that is not enough, within
// what the machine has free.
func (t *trainer) fit(c contract.TrainingConfig, shape plan.Shape, data plan.Data, devices contract.Devices, native bool) (plan.Settled, error) {
	m := plan.Machine{Cores: runtime.GOMAXPROCS(0), Kernels: kernel.Best().String(), BF16: kernel.Best() >= kernel.AVX512BF16, Whose: "free on this machine"}
	if t.memory != nil {
		m.Memory = t.memory()
	}
	if !native {
		m = torchMachine(c, m, devices)
	}
	if reserved := devices.MemoryBytes; len(devices.GPUs) == 0 && reserved > 0 && m.Memory > 0 && reserved < m.Memory {
		// The reservation is an estimate by the same rules: all of it may be used.
		within := m
		within.Memory, within.Whose, within.Reserved = reserved, "reserved for this stage", true
		out, err := plan.Settle(c, shape, within, data)
		if err == nil {
			return out, nil
		}
		t.emit.Warn("RESERVATION_TOO_SMALL", err.Error(), map[string]any{"reserved_bytes": reserved, "free_bytes": m.Memory})
	}
	return plan.Settle(c, shape, m, data)
}

// torchMachine is what the engine peft may use: the GPUs that were placed for it,
// else the machine m. BF16 and F16, of which the engine takes what the card computes
// in, need the same memory.
func torchMachine(c contract.TrainingConfig, m plan.Machine, devices contract.Devices) plan.Machine {
	out := plan.Machine{Memory: m.Memory, Whose: m.Whose, Cores: m.Cores, Torch: plan.TorchOn("cpu", false, c)}
	if len(devices.GPUs) > 0 {
		out.Memory, out.Whose, out.Torch = devices.GPUMemoryBytes, "on a card of this machine", plan.TorchOn("cuda", true, c)
		if runtime.GOOS == "darwin" {
			out.Torch = plan.TorchOn("mps", false, c)
		}
	}
	return out
}

// planShape is the model's shape with the dtype that its matrices are stored in.
func (t *trainer) planShape() (plan.Shape, error) {
	c := t.shape
	s := plan.Shape{Hidden: c.HiddenSize, Intermediate: c.IntermediateSize, Layers: c.NumLayers, Heads: c.NumHeads, KVHeads: c.NumKVHeads,
		HeadDim: c.HeadDim, Vocab: c.VocabSize, Context: c.MaxPositions, Tied: c.TieWordEmbeddings}
	f, err := weights.Open(t.modelDir)
	if err != nil {
		return s, fmt.Errorf("training: base model: %w", err)
	}
	defer f.Close()
	s.DType = matrixDType(f, c)
	return s, nil
}

func matrixDType(f *weights.File, c model.Config) string {
	for _, spec := range c.Tensors() {
		if len(spec.Shape) != 2 {
			continue
		}
		if info, ok := f.Info(spec.Name); ok {
			return info.DType
		}
	}
	return weights.BF16
}
