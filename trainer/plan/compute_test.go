package plan_test

import (
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/plan"
)

func TestHowProductsAreComputedIsSettled(t *testing.T) {
	with, without := machine(14), machine(14)
	with.BF16 = true
	neither := machine(14)
	neither.Kernels = plan.PureGo
	f16 := smol
	f16.DType = "F16"
	for _, c := range []struct {
		name, config       string
		shape              plan.Shape
		machine            plan.Machine
		compute, precision string
		reason             string // "" for none
	}{
		{"left open", ``, smol, with, "f32", "bf16", "two thirds of the time"},
		{"asked for", `"compute":"bf16"`, smol, with, "bf16", "bf16", ""},
		{"asked for where it is slow", `"compute":"bf16"`, smol, without, "bf16", "bf16", "the same bits as one that has, slower than in f32"},
		{"asked for on another architecture", `"compute":"bf16"`, smol, neither, "bf16", "bf16", "whose last bits differ"},
		{"asked for, with a base that would stay f32", `"compute":"bf16"`, f16, with, "bf16", "bf16", ""},
		{"asked for, but the base is in codes", `"compute":"bf16","base_precision":"int8"`, smol, with, "f32", "int8", "int8"},
		{"f32 asked for", `"compute":"f32"`, smol, with, "f32", "bf16", ""},
		{"full training", `"method":"full"`, smol, with, "f32", "f32", "all weights are trained"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := plan.Settle(training(c.config), c.shape, c.machine, plan.Data{Length: 128})
			if err != nil {
				t.Fatal(err)
			}
			if out.Training.Compute != c.compute || out.Training.BasePrecision != c.precision {
				t.Errorf("computed in %s, base in %s", out.Training.Compute, out.Training.BasePrecision)
			}
			reason := ""
			for _, s := range out.Settings {
				if s.Field == "training.compute" {
					reason = s.Reason
					if s.Value != c.compute {
						t.Errorf("the event says %s", s.Value)
					}
				}
			}
			if !strings.Contains(reason, c.reason) || (c.reason == "") != (reason == "") {
				t.Errorf("reason %q", reason)
			}
		})
	}
}

func TestRoundingTakesMemory(t *testing.T) {
	of := func(config string) int64 {
		out, err := plan.Settle(training(config), smol, machine(14), plan.Data{Length: 128})
		if err != nil {
			t.Fatal(err)
		}
		return out.Estimate.Total()
	}
	if of(`"compute":"bf16"`) <= of(`"compute":"f32"`) {
		t.Error("the rounded activations are not counted")
	}
}
