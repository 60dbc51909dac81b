package evaluation_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/evaluation"
	"github.com/tunemesh/tunemesh/trainer/sample"
	"github.com/tunemesh/tunemesh/trainer/training"
	"github.com/tunemesh/tunemesh/trainer/tuned"
	"github.com/tunemesh/tunemesh/trainer/tuned/tunedtest"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

func evaluate(t *testing.T, in contract.Input) (evaluation.Report, contract.Result, stagetest.Log) {
	t.Helper()
	in.OutputDir = t.TempDir()
	r, log, err := stagetest.Run(context.Background(), t, evaluation.Run, in)
	if err != nil {
		t.Fatal(err)
	}
	stagetest.Next(t, in, r, "export") // checks the size of the output
	data, err := os.ReadFile(filepath.Join(in.OutputDir, evaluation.MetricsFile))
	if err != nil {
		t.Fatal(err)
	}
	var report evaluation.Report
	if err := json.Unmarshal(data, &report); err != nil {
		t.Fatal(err)
	}
	return report, r, log
}

func TestAnAdapterOfZeroChangesNothing(t *testing.T) {
	in := tunedtest.Job(t, tunedtest.Tickets(80), `{"task":"classification"}`, weights.BF16)
	tunedtest.AddAdapter(t, &in, 0, nil)
	r, _, log := evaluate(t, in)
	if !reflect.DeepEqual(r.Base, r.Tuned) {
		t.Errorf("base %+v, tuned %+v", r.Base, r.Tuned)
	}
	if r.Improved {
		t.Error("an equal model is called an improvement")
	}
	labels := map[string]bool{}
	for _, a := range r.Answers {
		labels[a.Target] = true
		if a.Base != a.Tuned || a.BaseLabel != a.TunedLabel {
			t.Errorf("answers differ: %+v", a)
		}
	}
	if len(r.Answers) != 3 || len(labels) != 3 {
		t.Errorf("%d answers over %d labels, want 3 over 3", len(r.Answers), len(labels))
	}
	last := log.Events[len(log.Events)-1]
	if last.Progress == nil || last.Progress.Done != last.Progress.Total || last.Progress.Done != int64(2*(r.TestSamples+3)) {
		t.Errorf("the last progress is %+v of %d samples", last.Progress, r.TestSamples)
	}
}

// The stage shares the prompt among the labels; here each label is scored as a
// whole sequence of its own.
func TestScoresAreThoseOfWholeSequences(t *testing.T) {
	in := tunedtest.Job(t, tunedtest.Tickets(120), `{}`, weights.F32)
	tunedtest.AddAdapter(t, &in, 0.3, nil)
	r, _, _ := evaluate(t, in)
	files, err := tuned.Find(in)
	if err != nil {
		t.Fatal(err)
	}
	f, err := in.FindName(sample.TestFile)
	if err != nil {
		t.Fatal(err)
	}
	samples, err := sample.ReadFile(f.Path, 0)
	if err != nil {
		t.Fatal(err)
	}
	// The labels' tokens from the samples themselves.
	labels := map[string][]int32{}
	for _, name := range []string{sample.TrainFile, sample.TestFile} {
		f, err := in.FindName(name)
		if err != nil {
			t.Fatal(err)
		}
		all, err := sample.ReadFile(f.Path, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range all {
			labels[s.Target] = s.Tokens[s.Loss[0][0]:s.Loss[0][1]]
		}
	}
	for name, open := range map[string]func() (*tuned.Model, error){"base": files.OpenBase, "tuned": files.OpenTuned} {
		m, err := open()
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		hits, nats, tokens := 0, 0.0, 0
		for _, s := range samples {
			best, top := "", math.Inf(-1)
			for _, label := range tunedtest.Labels {
				ids := labels[label]
				lp, err := m.Logprobs(append(slices.Clone(s.Tokens[:s.PromptTokens]), ids...), s.PromptTokens)
				if err != nil {
					t.Fatal(err)
				}
				sum := 0.0
				for _, v := range lp {
					sum += v
				}
				if sum > top {
					best, top = label, sum
				}
				if label == s.Target {
					nats, tokens = nats-sum, tokens+len(lp)
				}
			}
			if best == s.Target {
				hits++
			}
		}
		got := map[string]evaluation.Scores{"base": r.Base, "tuned": r.Tuned}[name]
		if want := float64(hits) / float64(len(samples)); math.Abs(got.Accuracy-want) > 1e-12 {
			t.Errorf("%s: accuracy %v, want %v", name, got.Accuracy, want)
		}
		if want := nats / float64(tokens); math.Abs(got.Loss-want) > 1e-4 || math.Abs(got.Perplexity-math.Exp(want)) > 1e-3*math.Exp(want) {
			t.Errorf("%s: loss %v and perplexity %v, want %v", name, got.Loss, got.Perplexity, want)
		}
	}
	if r.Base.Loss == r.Tuned.Loss {
		t.Error("the adapter made no difference")
	}
	if r.Improved != (r.Tuned.Accuracy > r.Base.Accuracy) {
		t.Errorf("improved is %v", r.Improved)
	}
}

func TestTheSameRunGivesTheSameReport(t *testing.T) {
	in := tunedtest.Job(t, tunedtest.Tickets(60), `{"evaluation":{"max_samples":5,"sample_answers":9}}`, weights.BF16)
	tunedtest.AddAdapter(t, &in, 0.2, nil)
	a, _, _ := evaluate(t, in)
	b, _, _ := evaluate(t, in)
	if !reflect.DeepEqual(a, b) {
		t.Errorf("%+v\n%+v", a, b)
	}
	if a.TestSamples != 5 || len(a.Answers) != 5 {
		t.Errorf("%d samples and %d answers, want 5", a.TestSamples, len(a.Answers))
	}
}

// Trained in earnest, if only for a moment, for every kind of task and training.
func TestTrainingOnTheTaskImprovesTheLoss(t *testing.T) {
	for name, config := range map[string]string{
		"classification": `{"task":"classification","training":{"epochs":2,"learning_rate":0.01}}`,
		"summarization":  `{"task":"summarization","text_column":"text","label_column":"label","training":{"epochs":1}}`,
		"full":           `{"task":"qa","text_column":"text","label_column":"label","training":{"method":"full","epochs":1}}`,
	} {
		t.Run(name, func(t *testing.T) {
			in := tunedtest.Job(t, tunedtest.Tickets(100), config, weights.F32)
			in.Stage = "training"
			trained, _, err := stagetest.Run(context.Background(), t, training.Run, in)
			if err != nil {
				t.Fatal(err)
			}
			in = tunedtest.Follow(t, in, trained, "evaluation")
			r, result, _ := evaluate(t, in)
			if r.Tuned.Loss >= r.Base.Loss {
				t.Errorf("loss %v after training, %v before", r.Tuned.Loss, r.Base.Loss)
			}
			if name != "classification" {
				if !r.Improved {
					t.Error("a lower loss is not called an improvement")
				}
				if r.Tuned.Generation == nil || r.Tuned.Generated == 0 || r.Tuned.Classification != nil {
					t.Errorf("figures %+v", r.Tuned)
				}
			}
			if result.Metrics["tuned_loss"] != r.Tuned.Loss {
				t.Errorf("metrics %v", result.Metrics)
			}
		})
	}
}

func TestWithoutATestSplitItSaysSo(t *testing.T) {
	in := tunedtest.Job(t, tunedtest.Tickets(60), `{}`, weights.BF16)
	tunedtest.AddAdapter(t, &in, 0.1, nil)
	f, err := in.FindName(sample.TestFile)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(f.Path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r, _, log := evaluate(t, in)
	if _, ok := log.Warning("NO_HELD_OUT"); !ok || r.Split != sample.ValidationFile {
		t.Errorf("split %q, warned: %v", r.Split, ok)
	}
}

// A completion of plain texts has no prompt to answer: the loss is all there is.
func TestPlainTextsAreMeasuredByTheirLoss(t *testing.T) {
	texts := regexp.MustCompile(`(?m),[a-z]+$`).ReplaceAll(tunedtest.Tickets(60), nil) // without labels
	in := tunedtest.Job(t, texts, `{"task":"completion"}`, weights.BF16)
	tunedtest.AddAdapter(t, &in, 0.1, nil)
	r, _, _ := evaluate(t, in)
	if r.Base.Loss <= 0 || r.Base.Generation != nil || r.Base.Loss == r.Tuned.Loss || r.TestSamples == 0 || len(r.Answers) != 0 {
		t.Errorf("%+v", r)
	}
}

func TestABrokenAdapterIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*adapter.Config, []adapter.Tensor) []adapter.Tensor
		words  string
	}{
		"a module that is missing": {func(_ *adapter.Config, ts []adapter.Tensor) []adapter.Tensor {
			return slices.DeleteFunc(ts, func(t adapter.Tensor) bool { return strings.Contains(t.Name, "layers.1.mlp.up_proj") })
		}, "layers.1.mlp.up_proj"},
		"a module that the model lacks": {func(c *adapter.Config, ts []adapter.Tensor) []adapter.Tensor {
			c.TargetModules = []string{"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"}
			return ts
		}, "down_proj"},
		"another shape": {func(_ *adapter.Config, ts []adapter.Tensor) []adapter.Tensor {
			for i := range ts {
				if _, isB, _ := adapter.Module(ts[i].Name); !isB {
					ts[i].Cols, ts[i].Data = ts[i].Cols-1, ts[i].Data[:ts[i].Rows*(ts[i].Cols-1)]
				}
			}
			return ts
		}, "another model"},
		"no number": {func(_ *adapter.Config, ts []adapter.Tensor) []adapter.Tensor {
			ts[3].Data[5] = float32(math.NaN())
			return ts
		}, "NaN"},
		"another kind": {func(c *adapter.Config, ts []adapter.Tensor) []adapter.Tensor { c.UseDoRA = true; return ts }, "use_dora"},
	} {
		t.Run(name, func(t *testing.T) {
			in := tunedtest.Job(t, tunedtest.Tickets(40), `{}`, weights.BF16)
			tunedtest.AddAdapter(t, &in, 0.1, c.change)
			_, _, err := stagetest.Run(context.Background(), t, evaluation.Run, in)
			var fault *contract.Error
			if !errors.As(err, &fault) || fault.Code != "BAD_ADAPTER" || fault.Class.Retryable() || !strings.Contains(fault.Message, c.words) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestOtherTokenizersSamplesAreRefused(t *testing.T) {
	in := tunedtest.Job(t, tunedtest.Tickets(40), `{}`, weights.BF16)
	tunedtest.AddAdapter(t, &in, 0.1, nil)
	for stage, raw := range in.PreviousOutput {
		in.PreviousOutput[stage] = json.RawMessage(strings.ReplaceAll(string(raw), `"tokenizer_sha256":"`, `"tokenizer_sha256":"0`))
	}
	_, _, err := stagetest.Run(context.Background(), t, evaluation.Run, in)
	var fault *contract.Error
	if !errors.As(err, &fault) || fault.Code != "TOKENIZER_MISMATCH" {
		t.Errorf("got %v", err)
	}
}

func TestItStopsWhenTold(t *testing.T) {
	in := tunedtest.Job(t, tunedtest.Tickets(40), `{}`, weights.BF16)
	tunedtest.AddAdapter(t, &in, 0.1, nil)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, _, err := stagetest.Run(ctx, t, evaluation.Run, in); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
