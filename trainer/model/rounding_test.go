package model_test

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/kernel"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/optim"
)

// gaussianSource serves weights as a BF16 checkpoint that pass on what goes into
// them: normally distributed, by the root of their inputs; gains are one.
type gaussianSource struct{ bf16Source }

func (s gaussianSource) Tensor(name string) (string, []int, []byte, error) {
	dtype, shape, data, err := s.bf16Source.Tensor(name)
	if err != nil {
		return "", nil, nil, err
	}
	rng := rand.New(rand.NewPCG(9, uint64(len(data))))
	for i := range len(data) / 2 {
		v := float32(1)
		if len(shape) == 2 {
			v = float32(rng.NormFloat64() / math.Sqrt(float64(shape[1])))
		}
		binary.LittleEndian.PutUint16(data[2*i:], uint16(math.Float32bits(v)>>16))
	}
	return dtype, shape, data, nil
}

// rounding is an adapter on a base of bfloat16, with rounded activations or not.
func rounding(t *testing.T, cfg model.Config, rounds bool) *model.Model {
	t.Helper()
	m, err := model.Load(cfg, gaussianSource{bf16Source{cfg}})
	if err != nil {
		t.Fatal(err)
	}
	m.SetRounding(rounds)
	if err := m.AddLoRA(model.LoRAConfig{Rank: 8, Alpha: 16, TargetModules: []string{"all-linear"}}, 5); err != nil {
		t.Fatal(err)
	}
	return m
}

// curve trains on the same few rows again and again, and returns the mean losses.
func curve(t *testing.T, m *model.Model, steps int, rate float64, batch []model.Sequence) []float64 {
	t.Helper()
	o := optimiser(t, m)
	var out []float64
	for step := range steps {
		m.ZeroGrad()
		m.SetStep(uint64(step))
		sum, n, err := m.LossAndGrad(batch)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, sum/float64(n))
		optim.ScaleAndClip(optimTensors(m), 1/float64(n), 1)
		o.Step(rate)
	}
	return out
}

func TestATrainingWithRoundedActivationsFollowsTheOneInF32(t *testing.T) {
	for _, c := range []struct {
		name  string
		cfg   model.Config
		rate  float64 // what trainer/plan chooses for so small a model
		batch []model.Sequence
	}{
		{"tiny", tiny(true), 2e-3, rowsOf(37, 1, 19, 7, 30)},
		{"demo", demoShape(), 2e-3, rowsOf(4096, 1, 24, 24, 17)},
	} {
		t.Run(c.name, func(t *testing.T) {
			f32 := curve(t, rounding(t, c.cfg, false), 50, c.rate, c.batch)
			bf16 := curve(t, rounding(t, c.cfg, true), 50, c.rate, c.batch)
			var worst float64
			for i := range f32 {
				worst = max(worst, math.Abs(bf16[i]-f32[i])/f32[i])
			}
			t.Logf("loss %.4f -> %.4f in f32, %.4f in bf16; at most %.3f %% apart", f32[0], f32[49], bf16[49], 100*worst)
			if !(worst < 0.01) {
				t.Errorf("the losses are up to %.2f %% apart", 100*worst)
			}
			if worst == 0 {
				t.Error("nothing was rounded")
			}
			if !(f32[49] < 0.98*f32[0]) {
				t.Error("nothing was learnt, so that the comparison says nothing")
			}
		})
	}
}

func TestTheGradientWithRoundedActivationsIsCloseToThatInF32(t *testing.T) {
	grad := func(rounds bool) []float32 {
		m := rounding(t, demoShape(), rounds)
		curve(t, m, 3, 2e-3, rowsOf(4096, 2, 24, 24)) // so that B is not zero
		m.ZeroGrad()
		if _, _, err := m.LossAndGrad(rowsOf(4096, 3, 40, 20)); err != nil {
			t.Fatal(err)
		}
		var all []float32
		for _, p := range m.Params() {
			all = append(all, p.Grad...)
		}
		return all
	}
	want, got := grad(false), grad(true)
	var dot, x, y float64
	for i := range want {
		dot += float64(want[i]) * float64(got[i])
		x += float64(want[i]) * float64(want[i])
		y += float64(got[i]) * float64(got[i])
	}
	cosine := dot / math.Sqrt(x*y)
	t.Logf("cosine %.6f, norms %.5f and %.5f", cosine, math.Sqrt(x), math.Sqrt(y))
	if !(cosine > 0.998) || math.Abs(math.Sqrt(y/x)-1) > 0.02 {
		t.Errorf("cosine %.6f, norms %g and %g", cosine, math.Sqrt(x), math.Sqrt(y))
	}
}

// A checkpoint may move to a processor without AVX512_BF16: its loops compute the
// same bits.
func TestRoundedTrainingGivesTheSameBitsOnAllOfAMD64(t *testing.T) {
	if kernel.Best() < kernel.AVX512 {
		t.Skip("this processor has no AVX-512")
	}
	var first []float32
	for isa := kernel.AVX2; isa <= kernel.Best(); isa++ {
		m := rounding(t, midsize(), true)
		m.SetEngine(kernel.New(isa))
		train(t, m, optimiser(t, m), 0, 4)
		if first == nil {
			first = values(m)
		} else if !slices.Equal(first, values(m)) {
			t.Errorf("%v: other bits", isa)
		}
	}
}

// Scores of sessions do not change: they are computed in float32.
func TestASessionDoesNotRound(t *testing.T) {
	logits := func(rounds bool) []float32 {
		l, err := rounding(t, midsize(), rounds).NewSession().Append(rowsOf(500, 1, 12)[0].Tokens)
		if err != nil {
			t.Fatal(err)
		}
		return slices.Clone(l)
	}
	if !slices.Equal(logits(false), logits(true)) {
		t.Error("other logits")
	}
}
