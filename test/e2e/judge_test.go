package e2e

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

// The program that the operator of a node names reads every exported GGUF file: one that
// refuses them all fails the export of a mesh's job, through agent, shim and stage.
func TestTheNodesJudgeCanRefuseAnExport(t *testing.T) {
	t.Setenv(contract.EnvExportJudge, "false")
	m := newMesh(t)
	pipeline := api.DefaultPipeline()
	for i := range pipeline.Nodes {
		pipeline.Nodes[i].MaxAttempts = 1
	}
	job := m.submit(api.JobSpec{
		Dataset: m.upload("rows.csv", append([]byte("text,label\n"), labelled(80, "row %d,%s\n")...)).ID, Pipeline: &pipeline,
		Config: json.RawMessage(`{"training":{"max_steps":2},"evaluation":{"max_samples":4},"export":{"gguf":["q8_0"]}}`),
	})
	done := m.await(job.ID, 3*time.Minute)
	export := stage(t, done, "export")
	if done.State != api.JobFailed || export.Error == nil || export.Error.Code != "EXPORT_DIFFERS" || !strings.Contains(export.Error.Message, "false refuses "+job.ID+"_Q8_0.gguf") {
		t.Errorf("job is %s: %s\n%s", done.State, done.Reason, pretty(done.Stages))
	}
}
