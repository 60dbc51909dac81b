package rest_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// planned is a mesh with one node of so much memory and a model of TinyLlama's
// shape.
func planned(t *testing.T, memory int64) *mesh {
	t.Helper()
	m := newMesh(t)
	config := []byte(`{"hidden_size":2048,"intermediate_size":5632,"num_hidden_layers":22,"num_attention_heads":32,"num_key_value_heads":4,"vocab_size":32000,"max_position_embeddings":2048,"torch_dtype":"bfloat16"}`)
	a, err := m.store.PutBytes(t.Context(), api.BucketModels, "base/billion/config.json", config)
	if err != nil {
		t.Fatal(err)
	}
	a.Name = "config.json"
	if _, err := m.node.Apply(t.Context(), state.CreateModel{Model: api.Model{Name: "billion", Architecture: "LlamaForCausalLM", SHA256: "of the test", Files: []api.Artifact{a}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.node.Apply(t.Context(), state.UpsertNode{Node: api.Node{ID: "n-plan", Name: "box", Digest: "d", Capability: api.Capability{
		CPU: api.CPU{Cores: 4, Features: []string{"avx2"}}, MemoryBytes: memory, Engines: []api.Engine{{Name: "native", Available: true}}}}}); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestAPlanSaysWhatAJobWouldDo(t *testing.T) {
	m := planned(t, 8<<30)
	c := m.client(api.RoleUser)
	p, err := c.PlanJob(t.Context(), api.JobSpec{Config: json.RawMessage(`{"model":"billion","preprocessing":{"max_length":64}}`)})
	if err != nil {
		t.Fatal(err)
	}
	if p.Model != "billion" || len(p.Stages) != 1 || p.Stages[0].Stage != "training" {
		t.Fatalf("%+v", p)
	}
	got := map[string]string{}
	for _, s := range p.Stages[0].Settings {
		got[s.Field] = s.Value
		if s.Reason == "" {
			t.Errorf("%s has no reason", s.Field)
		}
	}
	for field, want := range map[string]string{"training.batch_size": "8", "training.base_precision": "bf16", "training.learning_rate": "0.0002"} {
		if got[field] != want {
			t.Errorf("%s is %q, want %q", field, got[field], want)
		}
	}
	if b := p.Stages[0].MemoryBytes; b < 3<<30 || b > 5<<30 || len(p.Stages[0].Memory) < 5 {
		t.Errorf("memory %d: %+v", b, p.Stages[0].Memory)
	}
	if jobs, err := c.Jobs(t.Context()); err != nil || len(jobs) != 0 {
		t.Errorf("a plan made %d jobs (%v)", len(jobs), err)
	}
}

// What is submitted reserves the memory that was planned, and what fits on no
// node is refused with the field and with what would fit.
func TestASubmitReservesItsMemoryOrIsRefused(t *testing.T) {
	m := planned(t, 8<<30)
	c := m.client(api.RoleUser)
	d := upload(t, c, "t.csv", "text,label\na,b\n")
	j, err := c.SubmitJob(t.Context(), api.JobSpec{Dataset: d.ID, Config: json.RawMessage(`{"model":"billion","preprocessing":{"max_length":64}}`)})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range j.Stages {
		if b := s.Requires.MemoryBytes; (s.Kind == "training") != (b > 3<<30) {
			t.Errorf("stage %s requires %d bytes", s.Name, b)
		}
	}
	for _, tc := range []struct{ config, field, hint string }{
		{`{"model":"billion","training":{"method":"full"}}`, "config.training.method", "training.method=lora"},
		{`{"model":"billion","training":{"batch_size":256},"preprocessing":{"max_length":2048}}`, "config.training.batch_size", "training.batch_size="},
	} {
		spec := api.JobSpec{Dataset: d.ID, Config: json.RawMessage(tc.config)}
		_, err := c.SubmitJob(t.Context(), spec)
		var p *api.Problem
		if !errors.As(err, &p) || p.Status != 422 || len(p.Errors) != 1 || p.Errors[0].Field != tc.field || !strings.Contains(p.Errors[0].Message, tc.hint) || !strings.Contains(p.Errors[0].Message, "on node box") {
			t.Errorf("%s: %v", tc.config, err)
		}
		if _, perr := c.PlanJob(t.Context(), spec); perr == nil || !strings.HasSuffix(perr.Error(), p.Errors[0].Error()) {
			t.Errorf("the plan says %v, the submit %v", perr, err)
		}
	}
	// A stage of the pipeline's own names its field where it says so itself.
	_, err = c.SubmitJob(t.Context(), api.JobSpec{Dataset: d.ID, Config: json.RawMessage(`{"model":"billion"}`),
		Pipeline: &api.Pipeline{Nodes: []api.StageSpec{{Name: "training", Config: json.RawMessage(`{"training":{"method":"full"}}`)}}}})
	if got := faults(t, err); len(got) != 1 || got[0] != "pipeline.nodes[0].config.training.method" {
		t.Errorf("%v", got)
	}
}
