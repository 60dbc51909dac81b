package optim_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/optim"
)

func tensors(seed uint64, sizes ...int) []optim.Tensor {
	rng := rand.New(rand.NewPCG(seed, 0))
	var list []optim.Tensor
	for i, n := range sizes {
		t := optim.Tensor{Name: string(rune('a' + i)), Data: make([]float32, n), Grad: make([]float32, n), NoDecay: i == 1}
		for j := range t.Data {
			t.Data[j], t.Grad[j] = float32(rng.NormFloat64()), float32(rng.NormFloat64())
		}
		list = append(list, t)
	}
	return list
}

func newAdamW(t *testing.T, list []optim.Tensor, decay float64) *optim.AdamW {
	t.Helper()
	cfg := optim.DefaultAdamW()
	cfg.WeightDecay = decay
	o, err := optim.NewAdamW(list, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// The update of torch.optim.AdamW's documentation, in float64.
func TestAdamWFollowsItsFormula(t *testing.T) {
	list := tensors(1, 37, 5)
	o := newAdamW(t, list, 0.1)
	type ref struct{ w, m, v float64 }
	var refs [][]ref
	for _, x := range list {
		r := make([]ref, len(x.Data))
		for i := range r {
			r[i].w = float64(x.Data[i])
		}
		refs = append(refs, r)
	}
	rng := rand.New(rand.NewPCG(5, 5))
	for step := 1; step <= 50; step++ {
		lr := 0.01 * float64(step%7)
		for ti, x := range list {
			for i := range x.Grad {
				x.Grad[i] = float32(rng.NormFloat64())
				g, r := float64(x.Grad[i]), &refs[ti][i]
				if !x.NoDecay {
					r.w -= lr * 0.1 * r.w
				}
				r.m = 0.9*r.m + 0.1*g
				r.v = 0.999*r.v + 0.001*g*g
				mh, vh := r.m/(1-math.Pow(0.9, float64(step))), r.v/(1-math.Pow(0.999, float64(step)))
				r.w -= lr * mh / (math.Sqrt(vh) + 1e-8)
			}
		}
		o.Step(lr)
	}
	for ti, x := range list {
		for i, w := range x.Data {
			if d := math.Abs(float64(w) - refs[ti][i].w); d > 5e-6 {
				t.Fatalf("tensor %s[%d] is %.8f, the formula says %.8f", x.Name, i, w, refs[ti][i].w)
			}
		}
	}
}

// A minimum that Adam must find: a test of direction, not of digits.
func TestAdamWFindsAMinimum(t *testing.T) {
	list := tensors(2, 20)
	o := newAdamW(t, list, 0)
	for step := range 400 {
		for i, w := range list[0].Data {
			list[0].Grad[i] = 2 * (w - float32(i))
		}
		o.Step(optim.Schedule{Kind: "cosine", Peak: 0.5, Total: 400}.At(step))
	}
	for i, w := range list[0].Data {
		if math.Abs(float64(w)-float64(i)) > 1e-2 {
			t.Errorf("weight %d is %g", i, w)
		}
	}
}

func TestARestoredOptimiserGoesOnBitForBit(t *testing.T) {
	run := func(interrupt bool) []float32 {
		list := tensors(3, 100, 9)
		o := newAdamW(t, list, 0.01)
		rng := rand.New(rand.NewPCG(9, 9))
		for step := range 20 {
			if interrupt && step == 11 {
				saved := o.State()
				copied := optim.State{Step: saved.Step}
				for _, s := range saved.Slots {
					copied.Slots = append(copied.Slots, optim.Slot{Name: s.Name, Data: slices.Clone(s.Data)})
				}
				slices.Reverse(copied.Slots) // the order in the file does not matter
				o = newAdamW(t, list, 0.01)
				if err := o.Restore(copied); err != nil {
					t.Fatal(err)
				}
				if o.Steps() != 11 {
					t.Fatalf("restored at step %d, want 11", o.Steps())
				}
			}
			for _, x := range list {
				for i := range x.Grad {
					x.Grad[i] = float32(rng.NormFloat64())
				}
			}
			o.Step(0.01)
		}
		return slices.Concat(list[0].Data, list[1].Data)
	}
	if !slices.Equal(run(false), run(true)) {
		t.Error("the interrupted run ended with other bits")
	}
}

func TestRestoreRefusesAnotherRunsState(t *testing.T) {
	o := newAdamW(t, tensors(4, 10, 3), 0)
	for name, s := range map[string]optim.State{
		"other lengths": newAdamW(t, tensors(4, 10, 4), 0).State(),
		"fewer":         newAdamW(t, tensors(4, 10), 0).State(),
		"more":          newAdamW(t, tensors(4, 10, 3, 1), 0).State(),
		"negative step": {Step: -1, Slots: o.State().Slots},
	} {
		if err := o.Restore(s); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestClippingKeepsTheDirectionAndLimitsTheNorm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := tensors(rapid.Uint64().Draw(t, "seed"), rapid.IntRange(1, 40).Draw(t, "n"), 3)
		scale := rapid.Float64Range(0.001, 10).Draw(t, "scale")
		limit := rapid.Float64Range(0, 5).Draw(t, "limit")
		before := slices.Concat(list[0].Grad, list[1].Grad)
		norm := optim.ScaleAndClip(list, scale, limit)
		var want float64
		for _, g := range before {
			want += float64(g) * float64(g) * scale * scale
		}
		if want = math.Sqrt(want); math.Abs(norm-want) > 1e-6*want {
			t.Fatalf("norm %g, want %g", norm, want)
		}
		factor := scale
		if limit > 0 && norm > limit {
			factor *= limit / norm
		}
		for i, g := range slices.Concat(list[0].Grad, list[1].Grad) {
			if d := math.Abs(float64(g) - factor*float64(before[i])); d > 1e-5*(1+math.Abs(float64(g))) {
				t.Fatalf("gradient %d is %g, want %g", i, g, factor*float64(before[i]))
			}
		}
	})
}

func TestAnInfiniteGradientIsReportedAndLeftAlone(t *testing.T) {
	list := tensors(6, 4)
	list[0].Grad[2] = float32(math.Inf(1))
	first := list[0].Grad[0]
	if norm := optim.ScaleAndClip(list, 0.5, 1); !math.IsInf(norm, 1) || list[0].Grad[0] != first {
		t.Errorf("norm %g, gradient %g -> %g", norm, first, list[0].Grad[0])
	}
}

func TestSchedules(t *testing.T) {
	for _, c := range []struct {
		s    optim.Schedule
		want map[int]float64
	}{
		{optim.Schedule{Kind: "constant", Peak: 2, Warmup: 4, Total: 10}, map[int]float64{0: 0, 1: 0.5, 4: 2, 9: 2, 50: 2}},
		{optim.Schedule{Kind: "linear", Peak: 2, Warmup: 2, Total: 10}, map[int]float64{1: 1, 2: 2, 6: 1, 10: 0, 11: 0}},
		{optim.Schedule{Kind: "cosine", Peak: 2, Total: 8}, map[int]float64{0: 2, 4: 1, 8: 0, 9: 0}},
		{optim.Schedule{Kind: "cosine", Peak: 2, Total: 8, MinRatio: 0.1}, map[int]float64{0: 2, 8: 0.2}},
	} {
		if err := c.s.Validate(); err != nil {
			t.Error(err)
		}
		for step, want := range c.want {
			if got := c.s.At(step); math.Abs(got-want) > 1e-12 {
				t.Errorf("%+v at %d: %g, want %g", c.s, step, got, want)
			}
		}
	}
	for _, bad := range []optim.Schedule{
		{Kind: "step", Total: 1}, {Kind: "linear"}, {Kind: "linear", Total: 1, Warmup: -1},
		{Kind: "linear", Total: 1, Peak: math.NaN()}, {Kind: "cosine", Total: 1, MinRatio: 2},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v: accepted", bad)
		}
	}
}

func TestBadConstantsAreRefused(t *testing.T) {
	for _, c := range []optim.AdamWConfig{{}, {Beta1: 1, Beta2: 0.9, Eps: 1}, {Beta1: 0.9, Beta2: -1, Eps: 1}, {Eps: 1, WeightDecay: -1}} {
		if _, err := optim.NewAdamW(nil, c); err == nil {
			t.Errorf("%+v: accepted", c)
		}
	}
	if _, err := optim.NewAdamW([]optim.Tensor{{Name: "x", Data: make([]float32, 2)}}, optim.DefaultAdamW()); err == nil {
		t.Error("a tensor without gradients was accepted")
	}
}
