package summary_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/summary"
)

var start = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

// job has stages under names of the user's own.
func job(outputs map[string]string) api.JobDetail {
	end := start.Add(100 * time.Second)
	j := api.JobDetail{Job: api.Job{JobSpec: api.JobSpec{ID: "01JDCK3V5W8M2N4P6Q7R8S9T0V"}, State: api.JobSucceeded, StartedAt: &start, FinishedAt: &end}}
	for _, name := range []string{"clean", "teach", "judge"} {
		s := api.Stage{StageSpec: api.StageSpec{Name: name}, State: api.StageSucceeded, StartedAt: &start, FinishedAt: &end}
		if outputs[name] != "" {
			s.Output = json.RawMessage(outputs[name])
		}
		j.Stages = append(j.Stages, s)
	}
	return j
}

func text(t *testing.T, j api.JobDetail) string {
	t.Helper()
	var b strings.Builder
	if err := summary.Print(&b, j, nil); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestOutputsAreFoundWhateverTheStagesAreCalled(t *testing.T) {
	got := text(t, job(map[string]string{
		"clean": `{"preprocessing":{"rows":10,"train":8,"validation":1,"test":1}}`,
		"teach": `{"training":{"steps":240,"tokens_per_second":5120.4,"schedule":"cosine","steps_of_epoch":[80]}}`,
		"judge": `{"evaluation":{"test_samples":40,"improved":true,"base":{"accuracy":0},"tuned":{"accuracy":1},"comparisons":[{"metric":"accuracy","samples":40,"difference":1,"difference_ci95":[1,1],"significant":true}],"answers":[{"input":"in","target":"yes","base":"no","tuned":"Yes "}]}}`,
	}))
	for _, want := range []string{"10 rows", "Training: steps 240, tokens per second 5,120\n", "0.0 %", "100.0 %", "+100.0 points  +100.0 to +100.0  better", "The tuned model beats the base model: accuracy +100.0 points, ", "expected  yes", "Yes  ✓", "judge"} {
		if !strings.Contains(got, want) {
			t.Errorf("the summary lacks %q:\n%s", want, got)
		}
	}
}

// The words follow the interval of the difference, not the figures: what chance
// can make is called neither better nor worse.
func TestAModelIsCalledBetterOrWorseOnlyBeyondChance(t *testing.T) {
	for name, c := range map[string]struct {
		comparison, row, words string
		improved               bool
	}{
		"beyond chance":        {`{"metric":"accuracy","samples":60,"difference":0.2,"difference_ci95":[0.05,0.4],"significant":true}`, "+5.0 to +40.0  better", "The tuned model beats the base model: accuracy +20.0 points, 95 % interval +5.0 to +40.0 over 60 samples.", true},
		"the interval holds 0": {`{"metric":"accuracy","samples":15,"difference":0.2,"difference_ci95":[0,0.4],"significant":false}`, "0.0 to +40.0  no difference shown", "No difference that 15 samples can show: accuracy +20.0 points, 95 % interval 0.0 to +40.0.", false},
		"worse":                {`{"metric":"accuracy","samples":60,"difference":-0.2,"difference_ci95":[-0.4,-0.1],"significant":true}`, "-40.0 to -10.0  worse", "does not beat the base model, it is worse: accuracy -20.0 points", false},
		"lower is better":      {`{"metric":"loss","samples":60,"difference":-0.5,"difference_ci95":[-0.7,-0.3],"significant":true,"lower_is_better":true}`, "-0.700 to -0.300  better", "beats the base model: loss -0.500, 95 %", true},
		"a higher loss":        {`{"metric":"loss","samples":60,"difference":0.5,"difference_ci95":[0.3,0.7],"significant":true,"lower_is_better":true}`, "+0.300 to +0.700  worse", "it is worse: loss +0.500", false},
	} {
		j := job(map[string]string{"judge": `{"evaluation":{"test_samples":60,"improved":true,"base":{"accuracy":0.5,"loss":1},"tuned":{"accuracy":0.7,"loss":0.5},"comparisons":[` + c.comparison + `]}}`})
		got := text(t, j)
		if words := strings.Join(strings.Fields(got), " "); !strings.Contains(words, c.words) || !strings.Contains(got, c.row) {
			t.Errorf("%s: want %q and %q, got:\n%s", name, c.row, c.words, got)
		}
		if improved, known := summary.Improved(j); improved != c.improved || !known {
			t.Errorf("%s: Improved is %v, %v", name, improved, known)
		}
	}
}

// A stage of the user's own may judge without intervals.
func TestAJudgementWithoutAnIntervalIsNoProof(t *testing.T) {
	j := job(map[string]string{"judge": `{"evaluation":{"test_samples":1,"improved":true,"base":{"accuracy":0.5},"tuned":{"accuracy":1}}}`})
	got := text(t, j)
	if !strings.Contains(got, "has the better figures; there is no interval that tells whether it is chance") || strings.Contains(got, "beats") {
		t.Errorf("got:\n%s", got)
	}
	if improved, known := summary.Improved(j); !improved || !known {
		t.Errorf("Improved is %v, %v", improved, known)
	}
}

func TestWhatAPipelineDoesNotHaveIsLeftOut(t *testing.T) {
	for name, outputs := range map[string]map[string]string{
		"no outputs": nil,
		"other":      {"judge": `{"score":1}`},
		"not JSON":   {"judge": `"evaluation"`},
		"null":       {"judge": `{"evaluation":null}`},
		"odd types":  {"judge": `{"evaluation":{"test_samples":"many"}}`, "clean": `{"preprocessing":[]}`},
	} {
		got := text(t, job(outputs))
		if strings.Contains(got, "Base and tuned") || strings.Contains(got, "Data:") || strings.Contains(got, "Artifacts") || !strings.Contains(got, "Time") {
			t.Errorf("%s: got\n%s", name, got)
		}
		if _, known := summary.Improved(job(outputs)); known {
			t.Errorf("%s: a judgement out of nothing", name)
		}
	}
}

func TestMetricsOfAnyTaskAreShown(t *testing.T) {
	got := text(t, job(map[string]string{"judge": `{"evaluation":{"test_samples":5,"base":{"chrf":0.1,"token_f1":0.2},"tuned":{"chrf":0.3,"token_f1":0.4,"only_tuned":1,"perplexity":null}}}`}))
	for _, want := range []string{"chrf", "token F1"} {
		if !strings.Contains(got, want) {
			t.Errorf("the summary lacks %q:\n%s", want, got)
		}
	}
	if strings.Contains(got, "perplexity") {
		t.Errorf("a number that was not measured is shown:\n%s", got)
	}
}

func TestArtifactsOfTheStagesAreListedByFolder(t *testing.T) {
	j := job(nil)
	for _, n := range []string{"a/one", "a/two", "b"} {
		j.Stages[1].Artifacts = append(j.Stages[1].Artifacts, api.Artifact{Name: n, Bucket: "models", Key: "x/" + n, Size: 1000})
	}
	got := text(t, j)
	for _, want := range []string{"teach      2  2.0 kB  models/x/a/\n", "teach      1  1.0 kB  models/x/b\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("the summary lacks %q:\n%s", want, got)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestAWriteErrorIsReturned(t *testing.T) {
	if err := summary.Print(full{}, job(nil), nil); err == nil {
		t.Error("no error")
	}
}

func FuzzPrint(f *testing.F) {
	f.Add(`{"evaluation":{"test_samples":1,"base":{"accuracy":0},"tuned":{"accuracy":1},"answers":[{"input":"x"}]}}`)
	f.Add(`{"preprocessing":{"rows":1,"dropped":{"a":-1}}}`)
	f.Fuzz(func(t *testing.T, output string) {
		var b strings.Builder
		if err := summary.Print(&b, job(map[string]string{"judge": output}), nil); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), "\x1b") {
			t.Fatalf("escape sequence in %q", b.String())
		}
	})
}
