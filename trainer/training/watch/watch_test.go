package watch_test

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/trainer/training/watch"
)

// run shows a training to a new watch and returns the alarms' codes with the step
// at which each came.
func run(steps []watch.Step) (codes []string, at []int) {
	var w watch.Watch
	for i, s := range steps {
		s.Number = i + 1
		for _, a := range w.See(s) {
			codes, at = append(codes, a.Code), append(at, s.Number)
		}
	}
	return codes, at
}

// curve is a training of n steps with a loss and a speed per step.
func curve(n int, loss func(i int) float64, speed func(i int) float64) []watch.Step {
	steps := make([]watch.Step, n)
	for i := range steps {
		steps[i] = watch.Step{Loss: loss(i), GradNorm: 1, Tokens: 1000, Seconds: 1000 / speed(i)}
	}
	return steps
}

func falling(i int) float64 { return 0.4 + 3*math.Exp(-float64(i)/60) }
func steady(int) float64    { return 500 }

func TestWhatIsWrongIsSaid(t *testing.T) {
	const n = 200
	for _, c := range []struct {
		name  string
		loss  func(i int) float64
		speed func(i int) float64
		want  []string
		by    int // the latest step of the first alarm
	}{
		{"a healthy training", falling, steady, nil, 0},
		{"a loss that is no number", func(i int) float64 {
			if i == 30 {
				return math.NaN()
			}
			return falling(i)
		}, steady, []string{watch.Diverged}, 31},
		{"an infinite loss", func(i int) float64 {
			if i == 30 {
				return math.Inf(1)
			}
			return falling(i)
		}, steady, []string{watch.Diverged}, 31},
		{"a loss that doubles every few steps", func(i int) float64 {
			if i > 60 {
				return falling(60) * math.Pow(2, float64(i-60)/4)
			}
			return falling(i)
		}, steady, []string{watch.LossExploding}, 72},
		{"one odd batch", func(i int) float64 {
			if i == 60 {
				return 40
			}
			return falling(i)
		}, steady, nil, 0},
		{"a loss near zero that trembles", func(i int) float64 { return 0.001 + 0.012*float64(i%7) }, steady, nil, 0},
		{"a noisy loss", func(i int) float64 { return falling(i) * (0.5 + 1.2*float64(i*7919%101)/101) }, steady, nil, 0},
		{"a loss that does not move", func(i int) float64 { return 2.7 + 0.05*float64(i%3) }, steady, []string{watch.LossFlat}, 100},
		{"a model that knows the answers", func(int) float64 { return 0.01 }, steady, nil, 0},
		{"converged, long after the start", func(i int) float64 { return max(0.4, 3-float64(i)/20) }, steady, nil, 0},
		{"steps that become ten times slower", falling, func(i int) float64 {
			if i >= 80 {
				return 50
			}
			return 500
		}, []string{watch.ThroughputCollapse}, 83},
		{"steps of a millisecond on a machine that is busy for a second", falling, func(i int) float64 {
			if i > 100 && i < 150 {
				return 50_000
			}
			return 1_000_000
		}, nil, 0},
		{"one slow step", falling, func(i int) float64 {
			if i == 80 {
				return 5
			}
			return 500
		}, nil, 0},
		{"a busy machine", falling, func(i int) float64 { return 250 + 500*float64(i*31%17)/17 }, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			codes, at := run(curve(n, c.loss, c.speed))
			if !slices.Equal(slices.Compact(slices.Clone(codes)), c.want) {
				t.Fatalf("alarms %v at %v, want %v", codes, at, c.want)
			}
			if len(at) > 0 && at[0] > c.by {
				t.Errorf("came at step %d, want %d at the latest", at[0], c.by)
			}
		})
	}
}

func TestASkippedUpdateHasNoNorm(t *testing.T) {
	var w watch.Watch
	if a := w.See(watch.Step{Number: 1, Loss: 1, GradNorm: math.Inf(1), Skipped: true}); len(a) > 0 {
		t.Errorf("%v", a)
	}
	if a := w.See(watch.Step{Number: 2, Loss: 1, GradNorm: math.Inf(1)}); len(a) != 1 || a[0].Code != watch.Diverged {
		t.Errorf("%v", a)
	}
}

// Warm-up steps learn next to nothing: they do not count as a flat loss.
func TestAWarmUpIsNotFlat(t *testing.T) {
	steps := curve(150, func(i int) float64 { return 2.7 }, steady)
	for i := range 90 {
		steps[i].WarmingUp = true
	}
	if codes, at := run(steps); len(codes) > 0 {
		t.Errorf("%v at %v", codes, at)
	}
}

// A watch that went through a checkpoint at any step says the same as one that
// did not.
func TestACheckpointChangesNoAlarm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rng := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		n := rapid.IntRange(20, 250).Draw(t, "steps")
		wild := rapid.Float64Range(0, 3).Draw(t, "wild")
		from := rng.IntN(n)
		steps := curve(n, func(i int) float64 {
			l := 2 * math.Exp(wild*rng.NormFloat64()/3)
			if i > from {
				l *= 1 + wild
			}
			return l
		}, func(i int) float64 { return 500 * math.Exp(wild*rng.NormFloat64()) })
		cut := rapid.IntRange(0, n).Draw(t, "cut")
		want, wantAt := run(steps)
		var w watch.Watch
		var got []string
		var gotAt []int
		for i, s := range steps {
			if i == cut {
				data, err := json.Marshal(w)
				if err != nil {
					t.Fatal(err)
				}
				w = watch.Watch{}
				if err := json.Unmarshal(data, &w); err != nil {
					t.Fatal(err)
				}
			}
			s.Number = i + 1
			for _, a := range w.See(s) {
				got, gotAt = append(got, a.Code), append(gotAt, s.Number)
				if a.Message == "" || len(a.Figures) < 3 || a.Since > s.Number || a.Since < 1 {
					t.Errorf("an alarm without figures: %+v", a)
				}
			}
		}
		if !slices.Equal(got, want) || !slices.Equal(gotAt, wantAt) {
			t.Fatalf("alarms %v at %v, without the checkpoint %v at %v", got, gotAt, want, wantAt)
		}
	})
}

// Whatever the losses: scaled by a factor above the small absolute limits, a
// falling curve raises nothing, and an alarm is not repeated at every step.
func TestAlarmsAreRare(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scale := rapid.Float64Range(0.2, 20).Draw(t, "scale")
		rate := rapid.Float64Range(20, 200).Draw(t, "rate")
		codes, at := run(curve(400, func(i int) float64 { return scale * (0.1 + math.Exp(-float64(i)/rate)) }, steady))
		if len(codes) > 0 {
			t.Fatalf("a falling loss raised %v at %v", codes, at)
		}
		jump := rapid.IntRange(30, 100).Draw(t, "jump")
		codes, at = run(curve(400, func(i int) float64 {
			if i >= jump {
				return scale * 50
			}
			return scale
		}, steady))
		if n := len(codes); n == 0 || n > 4 || at[0] > jump+3 {
			t.Fatalf("a jump at %d raised %v at %v", jump, codes, at)
		}
	})
}
