package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

// A zero set on the command line is the zero that the training reads, and not its
// default.
func TestAZeroSetOnTheCommandLineIsAZero(t *testing.T) {
	var sent api.JobSpec
	mesh := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/readyz" {
			return
		}
		sent = api.JobSpec{}
		if r.URL.Path != "/v1/plans" || json.NewDecoder(r.Body).Decode(&sent) != nil {
			t.Errorf("asked for %s", r.URL.Path)
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(api.JobPlan{Stages: []api.StagePlan{}})
	}))
	defer mesh.Close()
	config := func(sets ...string) contract.Config {
		t.Helper()
		args := []string{"job", "submit", "--dry-run"}
		for _, s := range sets {
			args = append(args, "--set", s)
		}
		quiet := &cobra.Command{}
		quiet.SetOut(t.Output())
		quiet.SetErr(t.Output())
		environment := map[string]string{"TUNEMESH_SERVER": mesh.URL, "TUNEMESH_TOKEN": "t"}
		if err := runVerb(t.Context(), quiet, environment, args); err != nil {
			t.Fatal(err)
		}
		c, err := contract.ParseConfig(sent.Config, true)
		if err != nil {
			t.Fatal(err)
		}
		if faults := c.WithDefaults().Validate(); len(faults) > 0 {
			t.Fatal(faults)
		}
		return c.WithDefaults()
	}
	plain, zero := config(), config("seed=0", "training.dropout=0", "training.warmup_ratio=0", "training.weight_decay=0.0", "training.max_grad_norm=0",
		"training.early_stopping_min_delta=0", "training.load_best=false", "evaluation.sample_answers=0", "validation.max_missing_fraction=0")
	tr := zero.Training
	for field, is := range map[string]float64{
		"seed": float64(zero.Seed), "dropout": tr.Dropout, "warmup_ratio": tr.WarmupRatio, "weight_decay": tr.WeightDecay, "max_grad_norm": tr.MaxGradNorm,
		"early_stopping_min_delta": tr.MinDelta, "sample_answers": float64(zero.Evaluation.SampleAnswers), "max_missing_fraction": zero.Validation.MaxMissingFraction,
	} {
		if is != 0 {
			t.Errorf("%s=0 became %v", field, is)
		}
	}
	if tr.LoadBest {
		t.Error("load_best=false became true")
	}
	if p := plain.Training; plain.Seed == 0 || p.WarmupRatio == 0 || p.MaxGradNorm == 0 || !p.LoadBest {
		t.Errorf("the defaults are zeros themselves, so that the test says nothing: %+v", p)
	}
	// A zero laid over another value is a zero too, and null is the default again.
	if c := config("training.dropout=0.5", "training.dropout=0", "training.warmup_ratio=0", "training.warmup_ratio=null"); c.Training.Dropout != 0 || c.Training.WarmupRatio != plain.Training.WarmupRatio {
		t.Errorf("%+v", c.Training)
	}
}
