package peft

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/engine"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

type peft struct {
	spec  engine.Spec
	proc  *process
	dir   string // scratch: the Python package, the adapter's first values
	dtype string // of the base model, in the words of protocol.py
	info  engine.Description
}

// Open starts the installed environment and loads the model into it.
func Open(ctx context.Context, s engine.Spec) (engine.Engine, error) {
	found, err := contract.FindEngine(contract.EngineFolders(""), engine.PEFT)
	if err != nil {
		e := &contract.Error{Class: contract.ClassResources, Code: "ENGINE_MISSING", Message: "the engine peft cannot run on this node: " + err.Error(), Field: "training.engine"}
		if errors.Is(err, contract.ErrNoEngine) {
			e.Hint = "tunemesh engine install peft on the node, or training.engine native"
		}
		return nil, e
	}
	return OpenWith(ctx, s, found)
}

// OpenWith is Open with a given environment.
func OpenWith(ctx context.Context, s engine.Spec, env contract.EngineManifest) (engine.Engine, error) {
	dir, err := os.MkdirTemp(s.ScratchDir, "peft-")
	if err != nil {
		return nil, fmt.Errorf("engine peft: %w", err)
	}
	p := &peft{spec: s, dir: dir}
	if err := p.open(ctx, env); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

func (p *peft) open(ctx context.Context, env contract.EngineManifest) error {
	request, err := p.request(env)
	if err != nil {
		return err
	}
	if err := unpack(p.dir); err != nil {
		return err
	}
	if err := p.initial(&request); err != nil {
		return err
	}
	workers := max(1, p.spec.Training.Workers)
	var vars []string
	if workers > 1 && request.Threads > 0 {
		vars = append(vars, "OMP_NUM_THREADS="+strconv.Itoa(request.Threads)) // torchrun's own default is 1
	}
	if p.proc, err = start(ctx, env.Python, p.dir, workers, vars, p.spec.Emit); err != nil {
		return err
	}
	var r openReply
	if err := p.proc.call(request, &r); err != nil {
		return err
	}
	p.info = engine.Description{
		Engine: engine.PEFT, Version: r.Version, Device: r.Device, Arithmetic: r.Arithmetic, Threads: r.Threads,
		Bits:    bits(r),
		Workers: r.Workers, Trainable: r.Trainable, Parameters: r.Parameters, BaseBytes: r.BaseBytes,
	}
	return nil
}

// bits: another build, device, precision or number of workers sums up in another
// order.
func bits(r openReply) string {
	words := fmt.Sprintf("peft on %s by %s, %s", r.Device, r.Version, r.Arithmetic)
	if r.Workers > 1 {
		words += fmt.Sprintf(", %d workers", r.Workers)
	}
	return words
}

// request is what the engine is asked to open.
func (p *peft) request(env contract.EngineManifest) (openRequest, error) {
	c := p.spec.Training
	r := openRequest{
		Op: "open", ModelDir: p.spec.ModelDir, Method: c.Method, Seed: p.spec.Seed, WeightDecay: c.WeightDecay,
		Device: p.device(env), Precision: "auto", Sharding: c.Sharding, Recompute: p.spec.Recompute, Threads: p.spec.Devices.CPUCores / max(1, c.Workers),
	}
	switch c.BasePrecision {
	case "int8", "int4":
		r.Quantization = c.BasePrecision
	case "f32", "bf16":
		r.Precision = c.BasePrecision
	}
	if c.Method != "full" {
		r.LoRA = &loraSpec{Rank: c.Rank, Alpha: c.Alpha, Dropout: c.Dropout, RSLoRA: c.RSLoRA, Targets: p.spec.AdapterConfig().TargetModules}
	}
	return r, p.inspect()
}

// device is the kind to compute on: the accelerator if the placement reserved
// one, else the CPU.
func (p *peft) device(env contract.EngineManifest) string {
	if len(p.spec.Devices.GPUs) == 0 {
		return "cpu"
	}
	for _, kind := range []string{"cuda", "mps"} {
		if slices.Contains(env.Devices, kind) {
			return kind
		}
	}
	return "auto"
}

// inspect finds out in which dtype the base model is stored.
func (p *peft) inspect() error {
	f, err := weights.Open(p.spec.ModelDir)
	if err != nil {
		return fmt.Errorf("training: base model: %w", err)
	}
	defer f.Close()
	p.dtype = "f32"
	if names := f.Names(); len(names) > 0 {
		info, _ := f.Info(names[0])
		if known, ok := map[string]string{weights.BF16: "bf16", weights.F16: "f16"}[info.DType]; ok {
			p.dtype = known
		}
	}
	return nil
}

// initial writes the adapter's first values: those of the adapter that is continued,
// or the same new ones that every engine starts from.
func (p *peft) initial(r *openRequest) error {
	if r.LoRA == nil {
		return nil
	}
	tensors := p.spec.Initial
	if len(tensors) == 0 {
		params, err := p.spec.Shape.InitialLoRA(model.LoRAConfig{Rank: r.LoRA.Rank, TargetModules: r.LoRA.Targets}, p.spec.Seed)
		if err != nil {
			return &contract.Error{Class: contract.ClassConfig, Code: "INVALID_CONFIG", Message: err.Error(), Field: "training"}
		}
		for _, t := range params {
			tensors = append(tensors, adapter.Tensor{Name: t.Name, Rows: t.Shape[0], Cols: t.Shape[1], Data: t.Data})
		}
	}
	r.Initial = filepath.Join(p.dir, "initial")
	return adapter.Save(r.Initial, p.spec.AdapterConfig(), tensors)
}

// Describe implements engine.Engine.
func (p *peft) Describe() engine.Description { return p.info }

// Step implements engine.Engine.
func (p *peft) Step(s engine.Step) (engine.Update, error) {
	r := stepRequest{Op: "step", FirstMicro: s.FirstMicro, Rate: s.Rate, MaxNorm: s.MaxNorm}
	for _, batch := range s.Micro {
		r.Micro = append(r.Micro, sequences(batch))
	}
	var got lossReply
	if err := p.proc.call(r, &got); err != nil {
		return engine.Update{}, err
	}
	return engine.Update{LossSum: number(got.LossSum), Targets: got.Targets, Norm: number(got.Norm), Skipped: got.Skipped}, nil
}

// Loss implements engine.Engine.
func (p *peft) Loss(batch []model.Sequence) (float64, int, error) {
	var got lossReply
	err := p.proc.call(lossRequest{Op: "loss", Batch: sequences(batch)}, &got)
	return number(got.LossSum), got.Targets, err
}

// PeakBytes implements engine.Measurer.
func (p *peft) PeakBytes() (int64, error) {
	var got measureReply
	err := p.proc.call(dirRequest{Op: "measure"}, &got)
	return got.PeakBytes, err
}

// SaveState implements engine.Engine.
func (p *peft) SaveState(dir string) error {
	if err := p.proc.call(dirRequest{Op: "save", Dir: dir}, nil); err != nil {
		return err
	}
	return p.adapterConfig(dir)
}

// LoadState implements engine.Engine.
func (p *peft) LoadState(dir string, updates int64) error {
	return p.proc.call(dirRequest{Op: "load", Dir: dir, Updates: updates}, nil)
}

// Export implements engine.Engine.
func (p *peft) Export(dir string) error {
	if err := p.proc.call(dirRequest{Op: "export", Dir: dir, DType: p.dtype, Metadata: p.spec.Origin.Metadata()}, nil); err != nil {
		return err
	}
	return p.adapterConfig(dir)
}

// adapterConfig adds adapter_config.json, by the same code for every engine.
func (p *peft) adapterConfig(dir string) error {
	if p.spec.Training.Method == "full" {
		return nil
	}
	data, err := p.spec.AdapterConfig().Encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(dir, adapter.ConfigName), data, 0o644); err != nil {
		return fmt.Errorf("engine peft: %w", err)
	}
	return nil
}

// Close implements engine.Engine.
func (p *peft) Close() error {
	var err error
	if p.proc != nil {
		err = p.proc.close()
		p.proc = nil
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}
