package judge_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	judge "github.com/tunemesh/tunemesh/test/gguf"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	stage "github.com/tunemesh/tunemesh/trainer/export"
	"github.com/tunemesh/tunemesh/trainer/tuned/tunedtest"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// The export stage lets a node's program read every GGUF file: here llama.cpp, which
// expects of each what the trainer's own engine expects of the tuned model.
func TestTheStageAsksLlamaCpp(t *testing.T) {
	j := judge.New(t)
	t.Setenv(stage.JudgeVariable, j.Command())
	in := tunedtest.Job(t, tunedtest.Tickets(60), `{"model":"tiny"}`, weights.F32)
	tunedtest.AddAdapter(t, &in, 0.3, nil)
	in.Stage, in.OutputDir = "export", t.TempDir()
	r, _, err := stagetest.Run(context.Background(), t, stage.Run, in)
	if err != nil {
		t.Fatal(err)
	}
	summary := r.Output[stage.OutputKey].(stage.Summary)
	for name, most := range map[string]float64{"job_F16.gguf": 1e-4, "job_Q8_0.gguf": 5e-3, "job_Q4_K_M.gguf": 0.3} {
		p := summary.Parity[name]
		if p.Judge == nil || p.Judge.Program != "judge.mjs" || p.Judge.Positions < 8 || !(p.Judge.MaxKL <= most) || p.TrainedDelta != 0 {
			t.Errorf("%s: %+v, judged %+v", name, p, p.Judge)
			continue
		}
		t.Logf("%s: read by llama.cpp mean KL %.2g, by us %.2g; the same best token at %.3f and %.3f of %d positions", name, p.Judge.MeanKL, p.MeanKL, p.Judge.SameTop, p.SameTop, p.Judge.Positions)
	}
}

// A program that refuses the file fails the stage; one that is not there is said.
func TestTheJudgeCanSayNo(t *testing.T) {
	for command, want := range map[string]string{"false": "refuses", "there-is-no-such-program": ""} {
		t.Setenv(stage.JudgeVariable, command)
		in := tunedtest.Job(t, tunedtest.Tickets(40), `{"export":{"gguf":["f16"]}}`, weights.F32)
		tunedtest.AddAdapter(t, &in, 0.3, nil)
		in.Stage, in.OutputDir = "export", t.TempDir()
		_, log, err := stagetest.Run(context.Background(), t, stage.Run, in)
		var fault *contract.Error
		if want != "" && (!errors.As(err, &fault) || fault.Code != "EXPORT_DIFFERS" || !strings.Contains(fault.Message, want)) {
			t.Errorf("%s: %v", command, err)
		}
		if want == "" {
			if _, warned := log.Warning("NO_JUDGE"); err != nil || !warned {
				t.Errorf("%s: %v, warned: %v", command, err, warned)
			}
		}
	}
}
