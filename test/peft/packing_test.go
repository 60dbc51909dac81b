package peft_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/training"
)

// Packed by tokens, padding counted, the steps of both engines are those of
// micro-batches by number; and a training that is killed goes on to the same bits.
func TestPackedStepsAreTheSameOnBothEngines(t *testing.T) {
	installed(t)
	const packed = `"packing_tokens":60,`
	_, want := run(t, job(t, llama(), config("native", "")))
	for _, name := range []string{"native", "peft"} {
		in := job(t, llama(), config(name, packed))
		s, log := run(t, in)
		compare(t, want, log)
		if s.PackingTokens != 60 || s.Steps != 20 {
			t.Errorf("%s: %+v", name, s)
		}
		// 160 samples in 20 steps of two micro-batches, were they not packed.
		if n := micros(t, filepath.Join(in.CheckpointDir, "epoch_1")); n < 50 {
			t.Errorf("%s: %d micro-batches in all", name, n)
		}
	}
	more := packed + `"load_best":false,"dropout":0.2,`
	whole, in := job(t, llama(), config("peft", more)), job(t, llama(), config("peft", more))
	run(t, whole)
	killed(t, &in, "stage", 7)
	if s, _ := run(t, in); s.ResumedAt < 5 {
		t.Errorf("went on at step %d", s.ResumedAt)
	}
	if d := difference(t, values(t, whole), values(t, in)); d != 0 {
		t.Errorf("the adapters differ by %g", d)
	}
}

// micros counts the micro-batches up to a checkpoint.
func micros(t *testing.T, dir string) uint64 {
	t.Helper()
	var s training.State
	data, err := os.ReadFile(filepath.Join(dir, "state.json"))
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		t.Fatal(err)
	}
	return s.Micro
}
