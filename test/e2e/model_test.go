package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/models"
)

// A Hugging Face folder is imported by the command line, and a job runs with it.
func TestAnImportedModelIsTrained(t *testing.T) {
	m := newMesh(t)
	folder := filepath.Join(t.TempDir(), "My-Model")
	if err := os.CopyFS(folder, models.Mini()); err != nil {
		t.Fatal(err)
	}
	out, err := m.cli("model", "import", folder, "--json")
	if err != nil {
		t.Fatal(err)
	}
	var made api.Model
	if err := json.Unmarshal([]byte(out), &made); err != nil || made.Name != "my-model" || made.Parameters == 0 || made.Architecture != "LlamaForCausalLM" {
		t.Fatalf("%s: %v", out, err)
	}
	again, err := m.cli("model", "import", folder, "--json")
	if err != nil || again != out {
		t.Errorf("imported again: %v\n%s\n%s", err, out, again)
	}
	if _, err := m.cli("model", "import", folder, "--dtype", "F32"); err == nil || !strings.Contains(err.Error(), "--replace") {
		t.Errorf("another model under the same name: %v", err)
	}
	pipeline := api.DefaultPipeline()
	pipeline = api.Pipeline{Nodes: pipeline.Nodes[:4], Edges: pipeline.Edges[:3]}
	job := m.submit(api.JobSpec{
		Dataset: m.upload("rows.csv", append([]byte("text,label\n"), labelled(80, "row %d,%s\n")...)).ID, Pipeline: &pipeline,
		Config: json.RawMessage(`{"model":"my-model","training":{"max_steps":2}}`),
	})
	if done := m.await(job.ID, 2*time.Minute); done.State != api.JobSucceeded || done.Model != "my-model" {
		t.Errorf("job is %s with model %q: %s\n%s", done.State, done.Model, done.Reason, pretty(done.Stages))
	}
}
