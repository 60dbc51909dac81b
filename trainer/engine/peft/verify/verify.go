package verify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/engine"
	"github.com/tunemesh/tunemesh/trainer/engine/native"
	"github.com/tunemesh/tunemesh/trainer/engine/peft"
	"github.com/tunemesh/tunemesh/trainer/model"
)

// Options of a verification.
type Options struct {
	Engine  contract.EngineManifest
	Devices []string // empty: all of the engine's
	Shape   string   // to measure the speed of: a key of Shapes, or none
	Scratch string   // folder for models; the caller deletes it
	Say     func(line string)
}

// agreeSteps is how many steps are compared, speedSteps how many are timed.
const agreeSteps, warmSteps, speedSteps = 20, 2, 5

// Run verifies. What a device cannot do is in the report; an error is of the run.
func Run(ctx context.Context, o Options) (Report, error) {
	r := Report{Packages: o.Engine.Packages}
	kinds := o.Devices
	if len(kinds) == 0 {
		kinds = o.Engine.Devices
	}
	small := filepath.Join(o.Scratch, "small")
	if err := writeModel(small, tiny()); err != nil {
		return r, err
	}
	o.Say("native: 20 steps over the F32 base")
	want, _, err := losses(ctx, native.Open, spec(o, "cpu", small, tiny(), "f32"), agreeSteps)
	if err != nil {
		return r, fmt.Errorf("engine verify: native: %w", err)
	}
	big := filepath.Join(o.Scratch, "big")
	if o.Shape != "none" {
		o.Say("writing random weights in the shape of " + Shapes[o.Shape].name)
		if err := writeModel(big, Shapes[o.Shape].config()); err != nil {
			return r, err
		}
	}
	for _, kind := range kinds {
		if !slices.Contains(o.Engine.Devices, kind) {
			return r, fmt.Errorf("engine verify: the engine saw no %s when it was installed (it saw %v): run tunemesh engine install peft again", kind, o.Engine.Devices)
		}
		d := Device{Kind: kind, Name: kind}
		for _, p := range precisions(kind) {
			if ctx.Err() != nil {
				return r, ctx.Err()
			}
			o.Say(fmt.Sprintf("%s: 20 steps with base_precision %s", kind, p))
			d.Checks = append(d.Checks, check(ctx, o, &d, small, p, want))
		}
		for _, p := range speeds(kind) {
			if o.Shape == "none" || ctx.Err() != nil {
				continue
			}
			o.Say(fmt.Sprintf("%s: the speed of %s with base_precision %s", kind, Shapes[o.Shape].name, p))
			d.Speed = append(d.Speed, measure(ctx, o, kind, big, p))
		}
		r.Devices = append(r.Devices, d)
	}
	return r, ctx.Err()
}

// precisions are those that a job may ask for; auto is the card's own, which on the
// CPU and on MPS is f32.
func precisions(kind string) []string {
	if kind == "cuda" {
		return []string{"f32", "auto", "bf16", "int8", "int4"}
	}
	return []string{"f32", "bf16", "int8", "int4"}
}

func speeds(kind string) []string {
	if kind == "cuda" {
		return []string{"auto", "int8", "int4"}
	}
	return []string{"f32", "int4"}
}

// tolerance of a loss within 20 steps, in nats. On the CPU the two engines differ in
// the order of sums alone; a card's own functions and sums differ more.
func tolerance(kind, precision string) float64 {
	switch {
	case precision == "f32" && kind == "cpu":
		return 2e-5
	case precision == "f32":
		return 1e-3
	case precision == "int4":
		return 0.1
	case precision == "int8":
		return 0.05
	}
	return 0.03
}

func check(ctx context.Context, o Options, d *Device, dir, precision string, want []float64) Check {
	c := Check{Precision: precision, Tolerance: tolerance(d.Kind, precision)}
	got, info, err := losses(ctx, open(o, d.Kind), spec(o, d.Kind, dir, tiny(), precision), len(want))
	if err != nil {
		c.Fault = words(err)
		return c
	}
	d.Name, c.Arithmetic = info.Device, info.Arithmetic
	for i := range want {
		if math.IsNaN(got[i]) || math.IsInf(got[i], 0) { // which JSON cannot say
			c.Fault = fmt.Sprintf("the loss of step %d is no number", i+1)
			return c
		}
		c.Worst = max(c.Worst, math.Abs(got[i]-want[i]))
	}
	c.FirstLoss, c.LastLoss = got[0], got[len(got)-1]
	switch {
	case c.Worst > c.Tolerance:
		c.Fault = fmt.Sprintf("the losses are %.3g nats from native's, %.3g are allowed", c.Worst, c.Tolerance)
	case !(c.LastLoss < c.FirstLoss):
		c.Fault = "the loss does not fall"
	}
	return c
}

// open is the engine peft on one kind of device.
func open(o Options, kind string) engine.Open {
	env := o.Engine
	env.Devices = []string{kind}
	return func(ctx context.Context, s engine.Spec) (engine.Engine, error) { return peft.OpenWith(ctx, s, env) }
}

func spec(o Options, kind, dir string, shape model.Config, precision string) engine.Spec {
	c := contract.Config{}.WithDefaults().Training
	c.Method, c.Rank, c.Alpha, c.TargetModules, c.BasePrecision = "lora", 16, 32, []string{"all-linear"}, precision
	s := engine.Spec{ModelName: "verify", ModelDir: dir, Shape: shape, Training: c, Seed: 1, ScratchDir: o.Scratch, MaxTokens: 4 * 128}
	if kind != "cpu" {
		s.Devices.GPUs = []int{0}
	}
	return s
}

// losses trains for some steps and returns the mean loss of each.
func losses(ctx context.Context, open engine.Open, s engine.Spec, steps int) (list []float64, d engine.Description, err error) {
	e, err := open(ctx, s)
	if err != nil {
		return nil, d, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	for i := range steps {
		if ctx.Err() != nil {
			return nil, d, ctx.Err()
		}
		step := engine.Step{FirstMicro: uint64(2 * i), Rate: 0.005, MaxNorm: 1}
		for m := range uint64(2) {
			step.Micro = append(step.Micro, rows(4, 16, s.Shape.VocabSize, uint64(2*i)+m))
		}
		u, err := e.Step(step)
		if err != nil {
			return nil, d, err
		}
		list = append(list, u.LossSum/float64(u.Targets))
	}
	return list, e.Describe(), nil
}

func measure(ctx context.Context, o Options, kind, dir, precision string) Speed {
	s := Speed{Shape: Shapes[o.Shape].name, Precision: precision}
	err := func() (err error) {
		shape := Shapes[o.Shape].config()
		e, err := open(o, kind)(ctx, spec(o, kind, dir, shape, precision))
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, e.Close()) }()
		var seconds []float64
		for i := range warmSteps + speedSteps {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			began := time.Now()
			if _, err := e.Step(engine.Step{Micro: [][]model.Sequence{rows(4, 128, shape.VocabSize, uint64(i))}, FirstMicro: uint64(i), Rate: 1e-4, MaxNorm: 1}); err != nil {
				return err
			}
			if i >= warmSteps {
				seconds = append(seconds, time.Since(began).Seconds())
			}
		}
		slices.Sort(seconds)
		s.TokensPerS, s.BaseBytes = 4*128/seconds[len(seconds)/2], e.Describe().BaseBytes
		if m, ok := e.(engine.Measurer); ok {
			s.PeakBytes, err = m.PeakBytes()
		}
		return err
	}()
	if err != nil {
		s.Fault = words(err)
	}
	return s
}

// words is a failure with what to do about it.
func words(err error) string {
	var e *contract.Error
	if errors.As(err, &e) && e.Hint != "" {
		return e.Message + ": " + e.Hint
	}
	return err.Error()
}

// Scratch makes a folder for Run.
func Scratch() (string, error) { return os.MkdirTemp("", "tunemesh-verify-") }
