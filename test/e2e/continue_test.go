package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// A second job begins where the first one's adapter was left, through control plane,
// agent and stages: by the commands of the document, and by the card it is told.
func TestATrainingGoesOnFromAnotherJobsAdapter(t *testing.T) {
	m := newMesh(t)
	rows := append([]byte("text,label\n"), labelled(80, "row %d,%s\n")...)
	pipeline := api.DefaultPipeline()
	pipeline = api.Pipeline{Nodes: pipeline.Nodes[:4], Edges: pipeline.Edges[:3]}
	first := m.submit(api.JobSpec{
		Dataset: m.upload("rows.csv", rows).ID, Pipeline: &pipeline,
		Config: json.RawMessage(`{"training":{"max_steps":6,"rank":4,"target_modules":["q_proj","v_proj"],"load_best":false}}`),
	})
	if done := m.await(first.ID, 3*time.Minute); done.State != api.JobSucceeded {
		t.Fatalf("job is %s: %s\n%s", done.State, done.Reason, pretty(done.Stages))
	}
	before := trainingOf(t, m.job(first.ID))

	file := filepath.Join(t.TempDir(), "more.csv")
	if err := os.WriteFile(file, rows, 0o600); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(blocks(t, "docs/engines.md", "Going on from an adapter", "sh")[0]), "\n")
	if len(lines) != 2 {
		t.Fatalf("the document has the commands %q", lines)
	}
	words := func(line string) []string {
		return strings.Fields(strings.NewReplacer("more.csv", file, "JOB", first.ID).Replace(strings.TrimPrefix(line, "tunemesh ")))
	}
	said, err := m.cli(words(lines[0])...)
	if err != nil || !strings.Contains(said, "training.init_adapter") || !strings.Contains(said, first.ID) || !strings.Contains(strings.Join(strings.Fields(said), " "), "training.rank 4: of the adapter that is continued") {
		t.Errorf("the dry run: %v\n%s", err, said)
	}
	if said, err := m.cli(append(words(lines[0]), "--set", "training.rank=8")...); err == nil || !strings.Contains(err.Error(), "is 8, but the adapter to go on from was trained with 4") {
		t.Errorf("another rank: %v\n%s", err, said)
	}
	if out, err := m.cli(append(words(lines[1]), "--set", "training.max_steps=3", "--set", "evaluation.max_samples=4", "--set", "export.skip_merged=true")...); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	jobs, err := m.client().Jobs(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(jobs, func(j api.Job) bool { return j.ID != first.ID })
	if len(jobs) != 2 || i < 0 {
		t.Fatalf("%d jobs", len(jobs))
	}
	second := m.job(jobs[i].ID)
	after := trainingOf(t, second)
	if after.FirstEvalLoss != before.FinalEvalLoss {
		t.Errorf("it begins with a loss of %v, the adapter was left with %v", after.FirstEvalLoss, before.FinalEvalLoss)
	}
	if after.Continued.From != first.ID || after.Continued.Rank != 4 || after.Continued.SHA256 == "" {
		t.Errorf("continued %+v", after.Continued)
	}
	var card struct {
		Settings struct {
			Training struct {
				InitAdapter   string   `json:"init_adapter"`
				Rank          int      `json:"rank"`
				TargetModules []string `json:"target_modules"`
			} `json:"training"`
		} `json:"settings"`
	}
	data, err := m.cli("artifact", "get", second.ID, "model_card.json", "-o", "-")
	if err != nil || json.Unmarshal([]byte(data), &card) != nil {
		t.Fatalf("the card: %v\n%s", err, data)
	}
	if s := card.Settings.Training; s.InitAdapter != first.ID || s.Rank != 4 || !slices.Equal(s.TargetModules, []string{"q_proj", "v_proj"}) {
		t.Errorf("the card says %+v", s)
	}
}

type trainingOutput struct {
	FirstEvalLoss float64 `json:"first_eval_loss"`
	FinalEvalLoss float64 `json:"final_eval_loss"`
	Continued     struct {
		From   string `json:"from"`
		SHA256 string `json:"sha256"`
		Rank   int    `json:"rank"`
	} `json:"continued_adapter"`
}

func trainingOf(t *testing.T, job api.JobDetail) trainingOutput {
	t.Helper()
	var out struct {
		Training trainingOutput `json:"training"`
	}
	if err := json.Unmarshal(stage(t, job, "training").Output, &out); err != nil || out.Training.FinalEvalLoss == 0 {
		t.Fatalf("the training said %s: %v", stage(t, job, "training").Output, err)
	}
	return out.Training
}
