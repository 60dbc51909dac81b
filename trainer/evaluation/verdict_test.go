package evaluation_test

import (
	"testing"

	"github.com/tunemesh/tunemesh/trainer/evaluation"
)

// A comparison calls a model better or worse only where chance is excluded, whatever
// the two figures are.
func TestAVerdictSaysNoMoreThanTheInterval(t *testing.T) {
	for _, c := range []struct {
		comparison evaluation.Comparison
		want       string
	}{
		{evaluation.Comparison{Metric: "accuracy", Samples: 60, Difference: 0.2, DiffCI95: evaluation.Interval{0.05, 0.4}, Significant: true},
			"The tuned model beats the base model over 60 samples: accuracy +0.2 (95 % interval +0.05 to +0.4)."},
		{evaluation.Comparison{Metric: "accuracy", Samples: 15, Difference: 0.2, DiffCI95: evaluation.Interval{0, 0.4}},
			"No difference that 15 samples can show: accuracy +0.2 (95 % interval +0 to +0.4)."},
		{evaluation.Comparison{Metric: "loss", Samples: 60, Difference: -0.5, DiffCI95: evaluation.Interval{-0.7, -0.3}, Significant: true, LowerBetter: true},
			"The tuned model beats the base model over 60 samples: loss -0.5 (95 % interval -0.7 to -0.3)."},
		{evaluation.Comparison{Metric: "loss", Samples: 60, Difference: 0.5, DiffCI95: evaluation.Interval{0.3, 0.7}, Significant: true, LowerBetter: true},
			"The tuned model is worse than the base model over 60 samples: loss +0.5 (95 % interval +0.3 to +0.7)."},
	} {
		if got := c.comparison.Verdict(); got != c.want {
			t.Errorf("got  %q\nwant %q", got, c.want)
		}
	}
}
