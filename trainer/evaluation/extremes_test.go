package evaluation_test

import (
	"bufio"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/dataset/stagetest"
	"github.com/tunemesh/tunemesh/trainer/evaluation"
	"github.com/tunemesh/tunemesh/trainer/tuned/tunedtest"
	"github.com/tunemesh/tunemesh/trainer/weights"
)

// The samples that the tuned model does worst and best on are kept, in order, with
// what it takes to judge them; each model is compared on each figure.
func TestTheWorstAndTheBestSamplesAreKept(t *testing.T) {
	for task, c := range map[string]struct {
		metric  string
		figures []string
	}{
		"classification": {"margin_nats", []string{"accuracy", "macro_f1", "loss"}},
		"qa":             {"rouge_l", []string{"loss", "exact_match", "token_f1", "rouge_1", "rouge_2", "rouge_l", "rouge_lsum", "bleu"}},
	} {
		t.Run(task, func(t *testing.T) {
			in := tunedtest.Job(t, tunedtest.Tickets(400), `{"task":"`+task+`","text_column":"text","label_column":"label"}`, weights.BF16)
			tunedtest.AddAdapter(t, &in, 0.3, nil)
			in.OutputDir = t.TempDir()
			result, _, err := stagetest.Run(context.Background(), t, evaluation.Run, in)
			if err != nil {
				t.Fatal(err)
			}
			if _, ok := result.Artifacts[evaluation.SamplesFile]; !ok {
				t.Fatalf("%s is no artifact: %v", evaluation.SamplesFile, result.Artifacts)
			}
			f, err := os.Open(filepath.Join(in.OutputDir, evaluation.SamplesFile))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			count, last := map[string]int{}, map[string]float64{}
			rows := map[int64]bool{}
			lines := bufio.NewScanner(f)
			for lines.Scan() {
				var e evaluation.Extreme
				if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
					t.Fatal(err)
				}
				count[e.End]++
				if e.Rank != count[e.End] || e.Metric != c.metric || e.Prompt == "" || e.Target == "" || rows[e.Row] {
					t.Errorf("%+v", e)
				}
				rows[e.Row] = true
				if e.Rank > 1 && (e.End == "worst") != (e.Score >= last[e.End]) && e.Score != last[e.End] {
					t.Errorf("%s %d has score %v after %v", e.End, e.Rank, e.Score, last[e.End])
				}
				last[e.End] = e.Score
			}
			if count["worst"] == 0 || count["best"] == 0 || count["worst"] > 20 || count["best"] > 20 || last["worst"] > last["best"] {
				t.Errorf("%v samples, ending at %v", count, last)
			}
			var report evaluation.Report
			raw, err := os.ReadFile(filepath.Join(in.OutputDir, evaluation.MetricsFile))
			if err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal(raw, &report); err != nil {
				t.Fatal(err)
			}
			var figures []string
			for _, k := range report.Comparisons {
				figures = append(figures, k.Metric)
				if !(k.BaseCI95[0] <= k.Base && k.Base <= k.BaseCI95[1]) || k.Samples < 10 || k.Resamples != evaluation.Resamples {
					t.Errorf("%+v", k)
				}
			}
			if !slices.Equal(figures, c.figures) || len(report.Extremes) != count["worst"]+count["best"] {
				t.Errorf("figures %v, %d samples in the report", figures, len(report.Extremes))
			}
		})
	}
}
