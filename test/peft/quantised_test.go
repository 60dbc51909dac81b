package peft_test

import (
	"math"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/model"
	"github.com/tunemesh/tunemesh/trainer/training"
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

// onTheF32Base puts the exported adapter on the F32 base in native, and evaluates it
// there.
func onTheF32Base(t *testing.T, in contract.Input, want, tolerance float64) {
	t.Helper()
	settings, tensors, err := adapter.Load(filepath.Join(in.OutputDir, training.AdapterFolder))
	if err != nil {
		t.Fatal(err)
	}
	m, err := model.NewRandom(llama(), 5) // as job writes it
	if err != nil {
		t.Fatal(err)
	}
	var batch []model.Sequence
	for _, s := range sampled(16, 2) {
		q := model.Sequence{Tokens: s.Tokens, Weights: make([]float32, len(s.Tokens))}
		for i := s.Loss[0][0]; i < s.Loss[0][1]; i++ {
			q.Weights[i] = 1
		}
		batch = append(batch, q)
	}
	loss := func() float64 {
		sum, targets, err := m.Loss(batch)
		if err != nil {
			t.Fatal(err)
		}
		return sum / float64(targets)
	}
	before := loss()
	if err := m.AddLoRA(model.LoRAConfig{Rank: settings.Rank, Alpha: settings.Alpha, TargetModules: settings.TargetModules}, 1); err != nil {
		t.Fatal(err)
	}
	params := m.Params()
	if len(params) != len(tensors) {
		t.Fatalf("the adapter has %d tensors, native wants %d", len(tensors), len(params))
	}
	for _, p := range params {
		i := slices.IndexFunc(tensors, func(v adapter.Tensor) bool { return v.Name == p.Name })
		if i < 0 || copy(p.Data, tensors[i].Data) != len(p.Data) {
			t.Fatalf("the adapter lacks %s", p.Name)
		}
	}
	after := loss()
	t.Logf("on the F32 base in native: %.4f -> %.4f", before, after)
	if math.Abs(after-want) > tolerance || !(after < before-0.1) {
		t.Errorf("on the F32 base the loss goes from %.4f to %.4f, want about %.4f", before, after, want)
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
	for _, c := range narrow[1:] { // the kill of resume_test.go is over an unquantised one
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
