package rest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

// small makes a model known whose shape can be read and fits anywhere.
func (m *mesh) small(t *testing.T, name string) {
	t.Helper()
	config := []byte(`{"hidden_size":64,"intermediate_size":128,"num_hidden_layers":2,"num_attention_heads":4,"num_key_value_heads":2,"vocab_size":500,"max_position_embeddings":128,"torch_dtype":"float32"}`)
	a, err := m.store.PutBytes(t.Context(), api.BucketModels, "base/"+name+"/config.json", config)
	if err != nil {
		t.Fatal(err)
	}
	a.Name = "config.json"
	if _, err := m.node.Apply(t.Context(), state.CreateModel{Model: api.Model{Name: name, Architecture: "LlamaForCausalLM", SHA256: name, Files: []api.Artifact{a}}}); err != nil {
		t.Fatal(err)
	}
}

// training is a job of one stage that trains.
func training(t *testing.T, user *client.Client, dataset, config string) api.JobDetail {
	t.Helper()
	j, err := user.SubmitJob(t.Context(), trainingSpec(dataset, config))
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func trainingSpec(dataset, config string) api.JobSpec {
	return api.JobSpec{Dataset: dataset, Config: json.RawMessage(config), Pipeline: &api.Pipeline{Nodes: []api.StageSpec{{Name: "training"}}}}
}

// trained plays the node that runs a job's training, which leaves these files.
func trained(t *testing.T, agent *client.Client, index uint64, files map[string]string) uint64 {
	t.Helper()
	set := wantWork(t, agent, index, 1)
	fence := set.Attempts[0].Fence
	report := api.AttemptReport{State: api.AttemptSucceeded, Output: json.RawMessage(`{}`), Artifacts: put(t, agent, fence, "", files)}
	if err := agent.ReportAttempt(t.Context(), fence, report); err != nil {
		t.Fatal(err)
	}
	return wantWork(t, agent, set.Index, 0).Index
}

const adapterConfig = `{"peft_type":"LORA","r":3,"lora_alpha":5,"use_rslora":true,"target_modules":["v_proj","q_proj"]}`

// A job that names another one gets its adapter's files as inputs of the training,
// and its plan says what comes with it.
func TestATrainingIsGivenTheAdapterThatItGoesOnFrom(t *testing.T) {
	m := newMesh(t)
	m.small(t, "small")
	user, agent := m.client(api.RoleUser), m.client(api.RoleNode)
	d := upload(t, user, "t.csv", "text,label\na,b\n")
	join(t, agent)
	first := training(t, user, d.ID, `{"model":"small"}`)
	files := map[string]string{"adapter/adapter_config.json": adapterConfig, "adapter/adapter_model.safetensors": "weights", "log.json": "{}"}
	index := trained(t, agent, 0, files)

	config := fmt.Sprintf(`{"model":"small","training":{"init_adapter":%q}}`, first.ID)
	p, err := user.PlanJob(t.Context(), trainingSpec("", config))
	if err != nil {
		t.Fatal(err)
	}
	told := map[string]string{}
	for _, s := range p.Stages[0].Settings {
		told[s.Field] = s.Value
	}
	for field, want := range map[string]string{"training.init_adapter": first.ID, "training.rank": "3", "training.alpha": "5", "training.use_rslora": "true", "training.target_modules": "q_proj,v_proj"} {
		if told[field] != want {
			t.Errorf("the plan says %s is %q, want %q", field, told[field], want)
		}
	}

	training(t, user, d.ID, config)
	a := wantWork(t, agent, index, 1).Attempts[0]
	var got []string
	for _, in := range a.Inputs {
		if in.Stage != contract.AdapterInputs {
			continue
		}
		var data strings.Builder
		if err := agent.Download(t.Context(), in.Artifact, &data); err != nil || data.String() != files[in.Name] {
			t.Errorf("%s holds %q, %v", in.Name, data.String(), err)
		}
		got = append(got, in.Name)
	}
	if want := []string{"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}; !slices.Equal(got, want) {
		t.Errorf("the training is given %v, want %v", got, want)
	}
}

// What cannot be gone on from is refused at submit, with the field and the reason.
func TestAnAdapterThatCannotBeContinuedIsRefusedAtSubmit(t *testing.T) {
	m := newMesh(t)
	m.small(t, "small")
	m.small(t, "other")
	user, agent := m.client(api.RoleUser), m.client(api.RoleNode)
	d := upload(t, user, "t.csv", "text,label\na,b\n")
	join(t, agent)
	first := training(t, user, d.ID, `{"model":"small"}`)
	index := trained(t, agent, 0, map[string]string{"adapter/adapter_config.json": adapterConfig, "adapter/adapter_model.safetensors": "weights"})
	whole := training(t, user, d.ID, `{"model":"small","training":{"method":"full"}}`)
	trained(t, agent, index, map[string]string{"full/config.json": "{}"})
	running := training(t, user, d.ID, `{"model":"small"}`)

	for name, c := range map[string]struct {
		config, field, words string
	}{
		"a folder":       {`{"model":"small","training":{"init_adapter":"/srv/adapter"}}`, "init_adapter", "want the id of a job"},
		"no such job":    {`{"model":"small","training":{"init_adapter":"01JDCK3V5W8M2N4P6Q7R8S9T0V"}}`, "init_adapter", "there is no job"},
		"full training":  {fmt.Sprintf(`{"model":"small","training":{"init_adapter":%q}}`, whole.ID), "init_adapter", "made no adapter"},
		"not finished":   {fmt.Sprintf(`{"model":"small","training":{"init_adapter":%q}}`, running.ID), "init_adapter", "no adapter yet: its stage training is"},
		"another model":  {fmt.Sprintf(`{"model":"other","training":{"init_adapter":%q}}`, first.ID), "init_adapter", "trained on the model small, but this job's model is other"},
		"another rank":   {fmt.Sprintf(`{"model":"small","training":{"rank":8,"init_adapter":%q}}`, first.ID), "rank", "is 8, but the adapter to go on from was trained with 3"},
		"full on top":    {fmt.Sprintf(`{"model":"small","training":{"method":"full","init_adapter":%q}}`, first.ID), "init_adapter", "method full"},
		"other modules":  {fmt.Sprintf(`{"model":"small","training":{"target_modules":["k_proj"],"init_adapter":%q}}`, first.ID), "target_modules", "is k_proj, but the adapter to go on from was trained with q_proj,v_proj"},
		"scaled anew":    {fmt.Sprintf(`{"model":"small","training":{"use_rslora":false,"init_adapter":%q}}`, first.ID), "use_rslora", "is false"},
		"another factor": {fmt.Sprintf(`{"model":"small","training":{"alpha":6,"init_adapter":%q}}`, first.ID), "alpha", "is 6, but"},
	} {
		_, err := user.SubmitJob(t.Context(), trainingSpec(d.ID, c.config))
		var p *api.Problem
		if !errors.As(err, &p) || len(p.Errors) != 1 || p.Errors[0].Field != "config.training."+c.field || !strings.Contains(p.Errors[0].Message, c.words) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An agent of an earlier release would train a new adapter without a word.
func TestATrainingGoesOnFromAnAdapterOnceEveryNodeKnowsHow(t *testing.T) {
	m := newMesh(t)
	m.small(t, "small")
	user, agent := m.client(api.RoleUser), m.client(api.RoleNode)
	d := upload(t, user, "t.csv", "text,label\na,b\n")
	join(t, agent)
	first := training(t, user, d.ID, `{"model":"small"}`)
	trained(t, agent, 0, map[string]string{"adapter/adapter_config.json": adapterConfig, "adapter/adapter_model.safetensors": "weights"})
	spec := trainingSpec(d.ID, fmt.Sprintf(`{"model":"small","training":{"init_adapter":%q}}`, first.ID))

	old := api.Node{ID: "n-old", Name: "ws-old", Digest: "d", Version: "0.3", Protocol: 4}
	for _, c := range []struct {
		name  string
		node  api.Node
		words string
	}{
		{"not upgraded", old, "node ws-old (n-old) runs tunemesh 0.3"},
		{"upgraded", api.Node{ID: old.ID, Name: old.Name, Digest: "d", Version: "0.4", Protocol: 5}, ""},
	} {
		if _, err := m.node.Apply(t.Context(), state.UpsertNode{Node: c.node}); err != nil {
			t.Fatal(err)
		}
		_, err := user.SubmitJob(t.Context(), spec)
		var p *api.Problem
		if c.words == "" && err != nil || c.words != "" && (!errors.As(err, &p) || len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Message, c.words)) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}
