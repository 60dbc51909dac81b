package inference_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/inference"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/tuned/tunedtest"
)

// auto is as stored where that fits into the free memory, and else the most exact that does;
// the line that is printed says what is chosen, why, and what it takes.
func TestAutoFollowsTheFreeMemory(t *testing.T) {
	dir := t.TempDir()
	tunedtest.WriteModel(t, dir, tunedtest.Tickets(60), "F32")
	files := tuned.Files{Base: dir}
	settle := func(precision string, free int64) inference.Settled {
		t.Helper()
		s, err := inference.Settle(files, precision, 2, free)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	stored, bf16, q8 := settle("stored", 1), settle("bf16", 1), settle("q8", 1)
	if f32 := settle("f32", 1); f32.Weights != stored.Weights || bf16.Weights >= stored.Weights*6/10 || q8.Weights >= bf16.Weights*6/10 {
		t.Errorf("weights take %d as stored, %d in f32, %d in bf16, %d in 8 bits", stored.Weights, f32.Weights, bf16.Weights, q8.Weights)
	}
	rest := 2*stored.Request + 64<<20 // the context is shorter than 2,048 tokens
	for free, want := range map[int64]string{0: "stored", 1 << 40: "stored", rest + stored.Weights: "stored", rest + stored.Weights - 1: "bf16", rest + bf16.Weights - 1: "q8"} {
		s := settle("auto", free)
		if s.Precision != want || s.Reason == "" || !strings.HasPrefix(s.String(), "precision is "+want+": ") || !strings.Contains(s.String(), "the weights take ") {
			t.Errorf("%d bytes free: %s", free, s)
		}
	}
	_, err := inference.Settle(files, "auto", 2, rest)
	var fault *contract.Error
	if !errors.As(err, &fault) || fault.Class != contract.ClassResources || fault.Field != "inference.precision" || !strings.Contains(fault.Message, "even in 8 bits") {
		t.Errorf("no memory: %v", err)
	}
	if _, err := inference.Settle(files, "q3", 2, 1); err == nil || !strings.Contains(err.Error(), "auto, stored, f32, bf16, q8") {
		t.Errorf("q3: %v", err)
	}
}

// A model is served in each precision: f32 gives what is stored in F32 to the bit, the
// narrower ones nearly that.
func TestAModelIsServedInThePrecisionThatIsAskedFor(t *testing.T) {
	dir := t.TempDir()
	tunedtest.WriteModel(t, dir, tunedtest.Tickets(60), "F32")
	logits := map[string][]float32{}
	for _, p := range []string{"stored", "f32", "bf16", "q8"} {
		l := load(t, tuned.Files{Base: dir}, p)
		got, err := l.Network.NewSession().Append([]int32{1, 2, 3})
		if err != nil {
			t.Fatal(err)
		}
		logits[p] = slices.Clone(got)
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if !slices.Equal(logits["stored"], logits["f32"]) {
		t.Error("f32 is not what is stored")
	}
	for p, most := range map[string]float32{"bf16": 0.05, "q8": 0.2} {
		var far float32
		for i, v := range logits[p] {
			far = max(far, v-logits["f32"][i], logits["f32"][i]-v)
		}
		if far == 0 || far > most {
			t.Errorf("%s: logits are off by %g", p, far)
		}
	}
}

// The config has the same names, and auto by default.
func TestTheConfigNamesThePrecisions(t *testing.T) {
	c, err := contract.ParseConfig([]byte(`{}`), false)
	if c = c.WithDefaults(); err != nil || c.Inference.Precision != "auto" {
		t.Errorf("the default is %q: %v", c.Inference.Precision, err)
	}
	for _, p := range append(contract.ServedPrecisions, "int4") {
		c.Inference.Precision = p
		faults := c.Validate()
		if wrong := len(faults) > 0 && faults[0].Field == "inference.precision"; wrong != (p == "int4") {
			t.Errorf("%s: %v", p, faults)
		}
	}
}
