package peft_test

import (
	"math"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/training/history"
)

// narrow lists the precisions of a frozen base, and how far the losses of 20 steps may
// be from those over the F32 base, in nats. The model is random and narrow, which is
// the hardest case: 64 values share the few levels of their block.
var narrow = []struct {
	precision string
	tolerance float64
}{
	{"bf16", 0.02},
	{"int8", 0.05},
	{"int4", 0.1},
}

// A base in 16, 8 or 4 bits is trained on by real steps of bitsandbytes: the loss
// falls as over the F32 base and stays near it, and what comes out is an adapter that
// works on the F32 base: native, which loads that base, finds the loss that peft saw.
func TestANarrowBaseLearnsAsTheF32BaseDoes(t *testing.T) {
	installed(t)
	_, want := run(t, job(t, llama(), config("peft", `"base_precision":"f32",`)))
	for _, c := range narrow {
		t.Run(c.precision, func(t *testing.T) {
			in := job(t, llama(), config("peft", `"base_precision":"`+c.precision+`","load_best":false,`))
			s, got := run(t, in)
			worst, same := apart(t, want, got)
			t.Logf("20 steps: worst difference from the F32 base %.4f nats; evaluation %.4f -> %.4f", worst, s.FirstEvalLoss, s.FinalEvalLoss)
			if worst > c.tolerance {
				t.Errorf("losses are %.4f nats apart, want %.2f at most", worst, c.tolerance)
			}
			if same {
				t.Error("every loss is that of the F32 base: nothing was rounded")
			}
			if !(s.FinalEvalLoss < s.FirstEvalLoss-0.1) {
				t.Errorf("nothing was learnt: %.3f -> %.3f", s.FirstEvalLoss, s.FinalEvalLoss)
			}
			onTheF32Base(t, in, s.FinalEvalLoss, c.tolerance)
		})
	}
}

// onTheF32Base lets native go on from the last checkpoint over the F32 base without a
// step that is left: it evaluates, and exports the adapter.
func onTheF32Base(t *testing.T, in contract.Input, want, tolerance float64) {
	t.Helper()
	trained := values(t, in)
	keep(t, in.CheckpointDir, "epoch_1")
	in.Config = []byte(config("native", `"base_precision":"f32","load_best":false,`))
	clear(t, &in)
	s, _ := run(t, in)
	if s.ResumedAt != 20 || math.Abs(s.FinalEvalLoss-want) > tolerance || !(s.FinalEvalLoss < s.FirstEvalLoss-0.1) {
		t.Errorf("on the F32 base: went on at %d, evaluation %.4f -> %.4f, want about %.4f", s.ResumedAt, s.FirstEvalLoss, s.FinalEvalLoss, want)
	}
	if d := difference(t, trained, values(t, in)); d != 0 {
		t.Errorf("the adapter changed by %g on its way", d)
	}
}

// apart is the greatest difference between the losses of two trainings, and whether
// all of them are equal.
func apart(t *testing.T, a, b history.Log) (worst float64, same bool) {
	t.Helper()
	if len(a.Steps) != 20 || len(b.Steps) != 20 {
		t.Fatalf("%d and %d steps are logged", len(a.Steps), len(b.Steps))
	}
	for i := range a.Steps {
		worst = max(worst, math.Abs(a.Steps[i].Loss-b.Steps[i].Loss))
	}
	return worst, worst == 0
}

// A checkpoint of a training on a narrow base goes on to the same bits, evaluations in
// between included: they must not change how the base lies in memory.
func TestAKilledTrainingOnANarrowBaseGoesOnToTheSameBits(t *testing.T) {
	installed(t)
	for _, c := range narrow {
		t.Run(c.precision, func(t *testing.T) {
			more := `"load_best":false,"dropout":0.1,"base_precision":"` + c.precision + `",`
			whole := job(t, llama(), config("peft", more))
			run(t, whole)
			in := job(t, llama(), config("peft", more))
			killed(t, &in, "stage", 12)
			if s, _ := run(t, in); s.ResumedAt < 10 {
				t.Errorf("went on at step %d", s.ResumedAt)
			}
			if d := difference(t, values(t, whole), values(t, in)); d != 0 {
				t.Errorf("the adapters differ by %g", d)
			}
		})
	}
}

// Each of two workers holds the small base whole; their losses are those of one.
func TestWorkersShareTheRowsOverAQuantisedBase(t *testing.T) {
	installed(t)
	for _, precision := range []string{"int8", "int4"} {
		t.Run(precision, func(t *testing.T) {
			more := `"base_precision":"` + precision + `",`
			_, want := run(t, job(t, llama(), config("peft", more)))
			_, got := run(t, job(t, llama(), config("peft", more+`"workers":2,`)))
			compare(t, want, got)
		})
	}
}
