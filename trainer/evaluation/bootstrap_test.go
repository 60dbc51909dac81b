package evaluation_test

import (
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/evaluation"
)

func meanOf(scores []float64) evaluation.Statistic {
	return func(which []int) float64 {
		sum := 0.0
		for _, i := range which {
			sum += scores[i]
		}
		return sum / float64(len(which))
	}
}

// For a mean the central limit theorem says where the interval has to be.
func TestTheIntervalOfAMeanIsTheNormalOne(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	base, tuned := make([]float64, 400), make([]float64, 400)
	for i := range base {
		base[i] = rng.Float64()
		tuned[i] = base[i] + 0.05 + 0.1*rng.NormFloat64()
	}
	c := evaluation.Compare("score", 400, 42, meanOf(base), meanOf(tuned))
	half := func(x, y []float64) float64 { // of the mean of x - y
		m, v := 0.0, 0.0
		for i := range x {
			m += (x[i] - y[i]) / 400
		}
		for i := range x {
			v += (x[i] - y[i] - m) * (x[i] - y[i] - m) / 399
		}
		return 1.96 * math.Sqrt(v/400)
	}
	zero := make([]float64, 400)
	for name, k := range map[string]struct {
		ci   evaluation.Interval
		at   float64
		half float64
	}{
		"base": {c.BaseCI95, c.Base, half(base, zero)}, "tuned": {c.TunedCI95, c.Tuned, half(tuned, zero)},
		"difference": {c.DiffCI95, c.Difference, half(tuned, base)},
	} {
		for i, want := range []float64{k.at - k.half, k.at + k.half} {
			if math.Abs(k.ci[i]-want) > 0.15*k.half {
				t.Errorf("%s: interval %v, by the normal distribution %v ± %v", name, k.ci, k.at, k.half)
			}
		}
	}
	if !c.Significant {
		t.Errorf("a difference of five deviations is not called significant: %+v", c)
	}
	if unpaired := c.TunedCI95[1] - c.TunedCI95[0]; c.DiffCI95[1]-c.DiffCI95[0] > unpaired/2 {
		t.Errorf("the difference's interval %v is not the paired one", c.DiffCI95)
	}
}

// Under no difference at all 95 of 100 intervals have to hold 0.
func TestChanceAloneIsSeldomSignificant(t *testing.T) {
	found := 0
	for trial := range uint64(200) {
		rng := rand.New(rand.NewPCG(trial, 9))
		base, tuned := make([]float64, 60), make([]float64, 60)
		for i := range base {
			base[i], tuned[i] = rng.NormFloat64(), rng.NormFloat64()
		}
		if evaluation.Compare("score", 60, trial, meanOf(base), meanOf(tuned)).Significant {
			found++
		}
	}
	if found > 22 { // 10 expected, deviation 3
		t.Errorf("%d of 200 comparisons of noise are called significant", found)
	}
}

func TestIntervalsAreSeededAndHoldTheFigure(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scores := rapid.SliceOfN(rapid.Float64Range(0, 1), 1, 40)
		base := scores.Draw(t, "base")
		tuned := rapid.SliceOfN(rapid.Float64Range(0, 1), len(base), len(base)).Draw(t, "tuned")
		a := evaluation.Compare("x", len(base), 5, meanOf(base), meanOf(tuned))
		if b := evaluation.Compare("x", len(base), 5, meanOf(base), meanOf(tuned)); !reflect.DeepEqual(a, b) {
			t.Fatalf("the same seed gives %+v and %+v", a, b)
		}
		for _, ci := range []evaluation.Interval{a.BaseCI95, a.TunedCI95} {
			if !(ci[0] >= -1e-12 && ci[1] <= 1+1e-12 && ci[0] <= ci[1]) {
				t.Fatalf("interval %v", ci)
			}
		}
		if same := evaluation.Compare("x", len(base), 5, meanOf(base), meanOf(base)); same.Significant || same.DiffCI95 != (evaluation.Interval{}) {
			t.Fatalf("a model and itself differ by %+v", same)
		}
	})
}
