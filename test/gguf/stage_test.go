package judge_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	judge "github.com/tunemesh/tunemesh/test/gguf"
	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	stage "github.com/tunemesh/tunemesh/trainer/export"
	"github.com/tunemesh/tunemesh/trainer/tuned/tunedtest"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// The export stage lets a node's program read every GGUF file: here llama.cpp, which
// expects of each, and of the base model with the adapter, what the trainer's own engine
// expects of the tuned model.
func TestTheStageAsksLlamaCpp(t *testing.T) {
	j := judge.New(t)
	t.Setenv(contract.EnvExportJudge, j.Command())
	in := tunedtest.Job(t, tunedtest.Tickets(60), `{"model":"tiny"}`, weights.F32)
	tunedtest.AddAdapter(t, &in, 0.3, func(c *adapter.Config, list []adapter.Tensor) []adapter.Tensor {
		c.UseRSLoRA = true // llama.cpp scales by alpha/rank: the file has to say another alpha
		return list
	})
	in.Stage, in.OutputDir, in.ScratchDir = "export", t.TempDir(), t.TempDir()
	r, _, err := stagetest.Run(context.Background(), t, stage.Run, in)
	if err != nil {
		t.Fatal(err)
	}
	summary := r.Output[stage.OutputKey].(stage.Summary)
	for name, most := range map[string]float64{"job_F16.gguf": 1e-4, "job_Q8_0.gguf": 5e-3, "job_Q4_K_M.gguf": 0.3, "job_adapter.gguf": 1e-6} {
		p := summary.Parity[name]
		if p.Judge == nil || p.Judge.Program != "judge.mjs" || p.Judge.Positions < 8 || !(p.Judge.MaxKL <= most) || p.TrainedDelta != 0 {
			t.Errorf("%s: %+v, judged %+v", name, p, p.Judge)
			continue
		}
		t.Logf("%s: read by llama.cpp mean KL %.2g, by us %.2g; the same best token at %.3f and %.3f of %d positions", name, p.Judge.MeanKL, p.MeanKL, p.Judge.SameTop, p.SameTop, p.Judge.Positions)
	}
}

// The adapter over a base model in half precision, which llama.cpp computes with rounded
// activations, is within the bounds too.
func TestTheStageAsksLlamaCppOfAnAdapterAlone(t *testing.T) {
	j := judge.New(t)
	t.Setenv(contract.EnvExportJudge, j.Command())
	for _, dtype := range []string{weights.F16, weights.BF16} {
		in := tunedtest.Job(t, tunedtest.Tickets(60), `{"model":"tiny","export":{"skip_merged":true}}`, dtype)
		tunedtest.AddAdapter(t, &in, 0.3, nil)
		in.Stage, in.OutputDir, in.ScratchDir = "export", t.TempDir(), t.TempDir()
		r, _, err := stagetest.Run(context.Background(), t, stage.Run, in)
		if err != nil {
			t.Fatal(err)
		}
		p := r.Output[stage.OutputKey].(stage.Summary).Parity["job_adapter.gguf"]
		if p.Judge == nil || p.Judge.Positions < 8 || !(p.Judge.MaxKL <= 1e-3) {
			t.Errorf("%s: judged %+v", dtype, p.Judge)
		}
		if left, err := os.ReadDir(in.ScratchDir); err != nil || len(left) > 0 {
			t.Errorf("%s: the base model that was written for the judge is left: %v, %v", dtype, left, err)
		}
		t.Logf("%s: judged %+v", dtype, p.Judge)
	}
}

// A program that refuses the file fails the stage; one that is not there is said.
func TestTheJudgeCanSayNo(t *testing.T) {
	for _, c := range []struct{ command, config, want string }{
		{"false", `{"export":{"gguf":["f16"]}}`, "false refuses job_F16.gguf"},
		{"false", `{"export":{"skip_merged":true}}`, "false refuses job_adapter.gguf"},
		{"cat", `{"export":{"skip_merged":true}}`, "cat answers"}, // the question is no answer
		{"there-is-no-such-program", `{"export":{"gguf":["f16"]}}`, ""},
	} {
		command, want := c.command, c.want
		t.Setenv(contract.EnvExportJudge, command)
		in := tunedtest.Job(t, tunedtest.Tickets(40), c.config, weights.F32)
		tunedtest.AddAdapter(t, &in, 0.3, nil)
		in.Stage, in.OutputDir = "export", t.TempDir()
		_, log, err := stagetest.Run(context.Background(), t, stage.Run, in)
		var fault *contract.Error
		if want != "" && (!errors.As(err, &fault) || fault.Code != "EXPORT_DIFFERS" && fault.Code != "BAD_JUDGE" || !strings.Contains(fault.Message, want)) {
			t.Errorf("%s: %v", command, err)
		}
		if want == "" {
			if _, warned := log.Warning("NO_JUDGE"); err != nil || !warned {
				t.Errorf("%s: %v, warned: %v", command, err, warned)
			}
		}
	}
}
