package peft_test

import (
	"math"
	"os"
	"path/filepath"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/training/history"
)

// tolerance of a loss, in nats. Both engines compute in F32 but sum in different
// orders, and the differences grow from step to step.
const tolerance = 2e-5

func TestTheSameJobGivesTheSameLossesOnBothEngines(t *testing.T) {
	installed(t)
	for name, more := range map[string]string{
		"lora":   "",
		"rslora": `"use_rslora":true,"target_modules":["q_proj","v_proj"],"schedule":"linear","warmup_ratio":0.2,`,
		"full":   `"method":"full","weight_decay":0.1,"base_precision":"f32",`,
	} {
		t.Run(name, func(t *testing.T) {
			native, peft := job(t, llama(), config("native", more)), job(t, llama(), config("peft", more))
			a, logA := run(t, native)
			b, logB := run(t, peft)
			compare(t, logA, logB)
			if a.Engine != "native" || b.Engine != "peft" {
				t.Fatalf("engines %s and %s", a.Engine, b.Engine)
			}
			if a.Steps != 20 || b.Steps != a.Steps || b.Tokens != a.Tokens || b.TrainableParams != a.TrainableParams || b.BaseParams != a.BaseParams {
				t.Errorf("native %+v\npeft %+v", a, b)
			}
			if !(b.FinalEvalLoss < b.FirstEvalLoss-0.1) {
				t.Errorf("nothing was learnt: %.3f -> %.3f", b.FirstEvalLoss, b.FinalEvalLoss)
			}
			sameFiles(t, native.OutputDir, peft.OutputDir)
		})
	}
}

func compare(t *testing.T, a, b history.Log) {
	t.Helper()
	if len(a.Steps) != 20 || len(b.Steps) != 20 {
		t.Fatalf("%d and %d steps are logged", len(a.Steps), len(b.Steps))
	}
	var worst float64
	for i := range a.Steps {
		x, y := a.Steps[i], b.Steps[i]
		worst = max(worst, math.Abs(x.Loss-y.Loss))
		if math.Abs(x.Loss-y.Loss) > tolerance {
			t.Errorf("step %d: loss %.6f and %.6f", x.Step, x.Loss, y.Loss)
		}
		if x.LearningRate != y.LearningRate || math.Abs(x.GradNorm-y.GradNorm) > 1e-3*(1+x.GradNorm) {
			t.Errorf("step %d: rate %g and %g, norm %.6f and %.6f", x.Step, x.LearningRate, y.LearningRate, x.GradNorm, y.GradNorm)
		}
	}
	for i := range a.Evaluations {
		if d := math.Abs(a.Evaluations[i].EvalLoss - b.Evaluations[i].EvalLoss); d > tolerance {
			t.Errorf("evaluation at step %d: %.6f and %.6f", a.Evaluations[i].Step, a.Evaluations[i].EvalLoss, b.Evaluations[i].EvalLoss)
		}
	}
	t.Logf("20 steps: worst difference of the loss %.2g", worst)
}

// sameFiles: the artifacts have the same names, and an adapter the same config.
func sameFiles(t *testing.T, a, b string) {
	t.Helper()
	names := func(dir string) []string {
		var list []string
		_ = filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				rel, _ := filepath.Rel(dir, path)
				list = append(list, rel)
			}
			return nil
		})
		return list
	}
	x, y := names(a), names(b)
	if len(x) == 0 || len(x) != len(y) {
		t.Fatalf("files %v and %v", x, y)
	}
	for i := range x {
		if x[i] != y[i] {
			t.Errorf("files %v and %v", x, y)
		}
	}
	if _, err := os.Stat(filepath.Join(a, "adapter")); err != nil {
		return
	}
	ca, ta, err := adapter.Load(filepath.Join(a, "adapter"))
	if err != nil {
		t.Fatal(err)
	}
	cb, tb, err := adapter.Load(filepath.Join(b, "adapter"))
	if err != nil {
		t.Fatal(err)
	}
	ja, _ := ca.Encode()
	jb, _ := cb.Encode()
	if string(ja) != string(jb) || len(ta) != len(tb) {
		t.Errorf("adapters differ: %s\n%s", ja, jb)
	}
	for i := range ta {
		if ta[i].Name != tb[i].Name || ta[i].Rows != tb[i].Rows || ta[i].Cols != tb[i].Cols {
			t.Errorf("tensor %s [%d,%d] and %s [%d,%d]", ta[i].Name, ta[i].Rows, ta[i].Cols, tb[i].Name, tb[i].Rows, tb[i].Cols)
		}
	}
}
