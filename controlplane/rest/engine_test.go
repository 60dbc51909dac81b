package rest_test

import (
	"encoding/json"
	"testing"

	"github.com/tunemesh/tunemesh/api"
)

// The engine that a training's config names becomes a requirement of its stage,
// and of no other.
func TestTheConfigsEngineIsWhereTheTrainingGoes(t *testing.T) {
	m := newMesh(t)
	c := m.client(api.RoleUser)
	d := upload(t, c, "t.csv", "text,label\na,b\n")
	gpu := &api.Pipeline{Nodes: []api.StageSpec{{Name: "training", Requires: api.Requirements{GPUs: 1}}}}
	for name, tc := range map[string]struct {
		config   string
		pipeline *api.Pipeline
		want     string
	}{
		"nothing said":       {`{}`, nil, "native"},
		"auto":               {`{"training":{"engine":"auto"}}`, nil, "native"},
		"auto with a GPU":    {`{}`, gpu, "peft"},
		"peft":               {`{"training":{"engine":"peft"}}`, nil, "peft"},
		"native with a GPU":  {`{"training":{"engine":"native"}}`, gpu, "native"},
		"the stage's config": {`{}`, &api.Pipeline{Nodes: []api.StageSpec{{Name: "training", Config: json.RawMessage(`{"training":{"engine":"peft"}}`)}}}, "peft"},
		"the pipeline's own": {`{}`, &api.Pipeline{Nodes: []api.StageSpec{{Name: "training", Requires: api.Requirements{Engine: "peft"}}}}, "peft"},
	} {
		t.Run(name, func(t *testing.T) {
			j, err := c.SubmitJob(t.Context(), api.JobSpec{Dataset: d.ID, Config: json.RawMessage(tc.config), Pipeline: tc.pipeline})
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range j.Stages {
				want := map[string]string{"training": tc.want, "evaluation": "native", "export": "native"}[s.Kind]
				if s.Requires.Engine != want {
					t.Errorf("stage %s requires %q, want %q", s.Name, s.Requires.Engine, want)
				}
			}
		})
	}
	_, err := c.SubmitJob(t.Context(), api.JobSpec{Dataset: d.ID, Config: json.RawMessage(`{"training":{"engine":"native"}}`),
		Pipeline: &api.Pipeline{Nodes: []api.StageSpec{{Name: "training", Requires: api.Requirements{Engine: "peft"}}}}})
	if got := faults(t, err); len(got) != 1 || got[0] != "pipeline.nodes[0].requires.engine" {
		t.Errorf("faults %v", got)
	}
}
