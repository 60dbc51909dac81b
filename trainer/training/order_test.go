package training_test

import (
	"reflect"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/training"
)

func TestEveryEpochSeesEverySampleOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := training.Order{
			Lengths: rapid.SliceOfN(rapid.IntRange(1, 300), 1, 200).Draw(t, "lengths"),
			PerStep: rapid.IntRange(1, 20).Draw(t, "per step"),
			Seed:    rapid.Uint64().Draw(t, "seed"),
		}
		steps := o.Epoch(rapid.IntRange(0, 5).Draw(t, "epoch"))
		if len(steps) != o.StepsPerEpoch() {
			t.Fatalf("%d steps, StepsPerEpoch says %d", len(steps), o.StepsPerEpoch())
		}
		var seen []int
		for i, step := range steps {
			if len(step) != o.PerStep && i != len(steps)-1 {
				t.Fatalf("step %d of %d has %d samples, want %d", i, len(steps), len(step), o.PerStep)
			}
			seen = append(seen, step...)
		}
		slices.Sort(seen)
		for i, s := range seen {
			if i != s {
				t.Fatalf("samples seen: %v", seen)
			}
		}
	})
}

func TestOrderDependsOnSeedAndEpochAlone(t *testing.T) {
	o := training.Order{Lengths: make([]int, 100), PerStep: 8, Seed: 7}
	for i := range o.Lengths {
		o.Lengths[i] = i % 13
	}
	if !reflect.DeepEqual(o.Epoch(1), o.Epoch(1)) {
		t.Error("the same epoch came in two orders")
	}
	if reflect.DeepEqual(o.Epoch(0), o.Epoch(1)) {
		t.Error("two epochs came in the same order")
	}
	other := o
	other.Seed = 8
	if reflect.DeepEqual(o.Epoch(0), other.Epoch(0)) {
		t.Error("two seeds gave the same order")
	}
}

// Samples of like length share a step, so that little is padded.
func TestTheSamplesOfAStepAreOfLikeLength(t *testing.T) {
	o := training.Order{Lengths: make([]int, 2000), PerStep: 8, Seed: 7}
	tokens := 0
	for i := range o.Lengths {
		o.Lengths[i] = 1 + i*37%300
		tokens += o.Lengths[i]
	}
	padded := 0
	for _, step := range o.Epoch(0) {
		longest := 0
		for _, i := range step {
			longest = max(longest, o.Lengths[i])
		}
		padded += longest * len(step)
	}
	if share := float64(padded) / float64(tokens); share > 1.25 { // 1.8 without an order
		t.Errorf("padded to its longest, a step takes %.2f times the tokens", share)
	}
}
