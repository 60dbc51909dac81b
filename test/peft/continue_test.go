package peft_test

import (
	"bytes"
	"encoding/json"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/training"
)

const earlier = "01JDCK3V5W8M2N4P6Q7R8S9T0V"

// from is a training of an engine that goes on from an adapter, whose rank and the
// rest it leaves open.
func from(t *testing.T, engine, dir string) contract.Input {
	t.Helper()
	in := job(t, llama(), `{"model":"tiny","export":{"skip_merged":true},"training":{"engine":"`+engine+`","init_adapter":"`+earlier+`","load_best":false,"epochs":1,"batch_size":4,"gradient_accumulation":2,"learning_rate":0.01,"checkpoint_steps":5,"logging_steps":1}}`)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		stagetest.AddFile(t, &in, contract.AdapterInputs, training.AdapterFolder+"/"+e.Name(), data)
	}
	return in
}

// An adapter that one engine has made is what the other one begins with, and both go
// on from it in the same way.
func TestAnAdapterOfOneEngineIsContinuedByTheOther(t *testing.T) {
	installed(t)
	for _, order := range [][2]string{{"native", "peft"}, {"peft", "native"}} {
		t.Run(order[0]+" then "+order[1], func(t *testing.T) {
			first := job(t, llama(), config(order[0], `"load_best":false,"use_rslora":true,"alpha":6,"target_modules":["q_proj","v_proj"],`))
			last, _ := run(t, first)
			dir := filepath.Join(first.OutputDir, training.AdapterFolder)

			other, otherLog := run(t, from(t, order[1], dir))
			own, ownLog := run(t, from(t, order[0], dir))
			for _, s := range []training.Summary{other, own} {
				c := s.Continued
				if c == nil || c.From != earlier || c.Rank != 4 || c.Alpha != 6 || !c.RSLoRA || !slices.Equal(c.TargetModules, []string{"q_proj", "v_proj"}) {
					t.Fatalf("%s continued %+v", s.Engine, c)
				}
				d := math.Abs(s.FirstEvalLoss - last.FinalEvalLoss)
				t.Logf("%s begins %.2g nats from where %s ended", s.Engine, d, last.Engine)
				if d > tolerance {
					t.Errorf("%s begins with a loss of %.6f, %s left the adapter with %.6f", s.Engine, s.FirstEvalLoss, last.Engine, last.FinalEvalLoss)
				}
			}
			if other.Engine != order[1] || other.FinalEvalLoss >= other.FirstEvalLoss {
				t.Errorf("%s: %.4f -> %.4f", other.Engine, other.FirstEvalLoss, other.FinalEvalLoss)
			}
			compare(t, ownLog, otherLog)
		})
	}
}

// An adapter that PEFT itself has written, with its own choice of fields, is taken by
// both engines, whose loss is the libraries' own; and the libraries take what comes
// out without a warning.
func TestAnAdapterOfTheHuggingFaceLibrariesIsContinued(t *testing.T) {
	python := installed(t).Python
	base := filepath.Dir(modelFile(t, job(t, llama(), config("native", ""))))
	dir := filepath.Join(t.TempDir(), "adapter")
	huggingFace(t, python, "make", base, dir)
	want := lossOf(t, python, base, dir)
	for _, engine := range []string{"native", "peft"} {
		t.Run(engine, func(t *testing.T) {
			in := job(t, llama(), `{"model":"tiny","export":{"skip_merged":true},"training":{"engine":"`+engine+`","init_adapter":"`+dir+`","load_best":false,"epochs":1,"batch_size":4,"gradient_accumulation":2,"learning_rate":0.01}}`)
			s, _ := run(t, in)
			if math.Abs(s.FirstEvalLoss-want) > tolerance {
				t.Errorf("it begins with a loss of %.6f, transformers has %.6f", s.FirstEvalLoss, want)
			}
			if s.FinalEvalLoss >= s.FirstEvalLoss {
				t.Errorf("nothing was learnt: %.4f -> %.4f", s.FirstEvalLoss, s.FinalEvalLoss)
			}
			if got := lossOf(t, python, base, filepath.Join(in.OutputDir, training.AdapterFolder)); math.Abs(got-s.FinalEvalLoss) > tolerance {
				t.Errorf("it ends with a loss of %.6f, transformers has %.6f", s.FinalEvalLoss, got)
			}
		})
	}
}

// A training that goes on from an adapter is interrupted as any other.
func TestAKilledTrainingFromAnAdapterGoesOnToTheSameBits(t *testing.T) {
	installed(t)
	first := job(t, llama(), config("native", `"load_best":false,`))
	run(t, first)
	dir := filepath.Join(first.OutputDir, training.AdapterFolder)
	whole := from(t, "peft", dir)
	run(t, whole)
	in := from(t, "peft", dir)
	killed(t, &in, "stage", 7)
	s, _ := run(t, in)
	if s.ResumedAt < 5 {
		t.Errorf("went on at step %d, want 5 or later", s.ResumedAt)
	}
	if d := difference(t, values(t, whole), values(t, in)); d != 0 {
		t.Errorf("the adapters differ by %g", d)
	}
}

func modelFile(t *testing.T, in contract.Input) string {
	t.Helper()
	f, err := in.Find(contract.ModelInputs, "config.json")
	if err != nil {
		t.Fatal(err)
	}
	return f.Path
}

// lossOf is the validation samples' loss with an adapter, by transformers and PEFT.
func lossOf(t *testing.T, python, base, dir string) float64 {
	t.Helper()
	var loss float64
	if err := json.Unmarshal(huggingFace(t, python, "loss", base, dir), &loss); err != nil {
		t.Fatal(err)
	}
	return loss
}

func huggingFace(t *testing.T, python string, args ...string) []byte {
	t.Helper()
	var lines bytes.Buffer
	for _, s := range sampled(16, 2) { // the validation samples of job
		line, err := json.Marshal(map[string]any{"tokens": s.Tokens, "loss": s.Loss})
		if err != nil {
			t.Fatal(err)
		}
		lines.Write(append(line, '\n'))
	}
	cmd := exec.CommandContext(t.Context(), python, append([]string{"testdata/hf_adapter.py"}, args...)...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = &lines, &stderr
	cmd.Env = append(os.Environ(), "HF_HUB_OFFLINE=1")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, tail(stderr.String()))
	}
	return out
}
