package rest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

const gib = 1 << 30

// joined adds a node to a mesh.
func joined(t *testing.T, m *mesh, name string, c api.Capability) {
	t.Helper()
	if _, err := m.node.Apply(t.Context(), state.UpsertNode{Node: api.Node{ID: "n-" + name, Name: name, Digest: "d", Capability: c}}); err != nil {
		t.Fatal(err)
	}
}

// withPEFT is what a machine can do whose PyTorch sees its cards, all alike.
func withPEFT(memory int64, gpus int, card api.GPU) api.Capability {
	c := api.Capability{CPU: api.CPU{Cores: 8}, MemoryBytes: memory, Engines: []api.Engine{
		{Name: "native", Available: true}, {Name: "peft", Available: true, Devices: []string{"cpu"}, Version: "torch 2.15.0"}}}
	for i := range gpus {
		card.Index = i
		c.GPUs, c.Engines[1].Devices = append(c.GPUs, card), []string{"cpu", "cuda"}
	}
	return c
}

var l4 = api.GPU{Kind: "cuda", Name: "NVIDIA L4", MemoryBytes: 23 * gib, ComputeCapability: "8.9"}

func onGPUs(n int) *api.Pipeline {
	return &api.Pipeline{Nodes: []api.StageSpec{{Name: "training", Requires: api.Requirements{GPUs: n}}}}
}

func ofPEFT(config string, pipeline *api.Pipeline) api.JobSpec {
	return api.JobSpec{Config: json.RawMessage(`{"model":"billion","preprocessing":{"max_length":128},` + config + `}`), Pipeline: pipeline}
}

func theTraining(t *testing.T, p api.JobPlan) api.StagePlan {
	t.Helper()
	if len(p.Stages) != 1 || p.Stages[0].Stage != "training" {
		t.Fatalf("%+v", p)
	}
	return p.Stages[0]
}

// A training whose engine no node has is planned all the same; the plan says what each
// node lacks and what to do, in the words in which the stage will wait.
func TestAPlanSaysThatNoNodeHasTheEngine(t *testing.T) {
	m := planned(t, 16*gib)
	lacks := withPEFT(64*gib, 0, api.GPU{})
	lacks.Engines[1] = api.Engine{Name: "peft", Reason: "not installed: run tunemesh engine install peft"}
	joined(t, m, "ws-anna", lacks)
	c := m.client(api.RoleUser)
	for _, config := range []string{`"training":{"engine":"peft"}`, `"training":{"engine":"peft","workers":2}`, `"training":{"engine":"peft","base_precision":"int4"}`} {
		p, err := c.PlanJob(t.Context(), ofPEFT(config, nil))
		if err != nil {
			t.Fatal(err)
		}
		s := theTraining(t, p)
		if s.Engine != "peft" || s.MemoryBytes < 2*gib || len(s.Settings) == 0 {
			t.Errorf("%s: %+v", config, s)
		}
		if !strings.HasPrefix(s.Waits, api.NoEngine("peft", false)+"; nearest: ") || len(s.Nodes) != 2 {
			t.Errorf("waits %q, nodes %+v", s.Waits, s.Nodes)
		}
		for _, n := range s.Nodes {
			want := map[string]string{"box": "runs native", "ws-anna": "not installed: run tunemesh engine install peft"}[n.Node]
			if n.CanRun || n.Reason != want {
				t.Errorf("%+v, want %q", n, want)
			}
		}
	}
	// What would not fit the best of them with the engine, does not now.
	_, err := c.PlanJob(t.Context(), ofPEFT(`"training":{"engine":"peft","workers":16}`, nil))
	var p *api.Problem
	if !errors.As(err, &p) || len(p.Errors) != 1 || !strings.Contains(p.Errors[0].Message, "64.0 GiB are on node ws-anna, which has the most once it has the engine") {
		t.Errorf("%v", err)
	}
	d := upload(t, c, "t.csv", "text,label\na,b\n")
	spec := ofPEFT(`"training":{"engine":"peft"}`, nil)
	spec.Dataset = d.ID
	j, err := c.SubmitJob(t.Context(), spec)
	if err != nil {
		t.Fatalf("a node may join or get the engine later: %v", err)
	}
	for _, s := range j.Stages {
		if s.Kind == "training" && s.Requires.MemoryBytes < 2*gib {
			t.Errorf("reserves %d bytes", s.Requires.MemoryBytes)
		}
	}
}

// What the plan says of a training follows from the best of the nodes that have the
// engine: its memory, or that of its cards.
func TestPeftIsPlannedForTheBestNodeThatHasIt(t *testing.T) {
	m := planned(t, 512*gib) // without peft: of no use
	joined(t, m, "gpu-1", withPEFT(64*gib, 2, l4))
	joined(t, m, "gpu-2", withPEFT(64*gib, 1, api.GPU{Kind: "cuda", Name: "Tesla T4", MemoryBytes: 15 * gib, ComputeCapability: "7.5"}))
	joined(t, m, "cpu-1", withPEFT(32*gib, 0, api.GPU{}))
	c := m.client(api.RoleUser)
	settings := func(s api.StagePlan) map[string]string {
		out := map[string]string{}
		for _, v := range s.Settings {
			out[v.Field] = v.Value + ": " + v.Reason
		}
		return out
	}
	plan := func(config string, pipeline *api.Pipeline) api.StagePlan {
		t.Helper()
		p, err := c.PlanJob(t.Context(), ofPEFT(config, pipeline))
		if err != nil {
			t.Fatal(err)
		}
		return theTraining(t, p)
	}
	cpu := plan(`"training":{"engine":"peft"}`, nil)
	if got := settings(cpu); !strings.HasPrefix(got["training.base_precision"], "f32: ") || !strings.Contains(got["memory"], "64.0 GiB on node gpu-1") {
		t.Errorf("on the CPU: %v", got)
	}
	card := plan(`"training":{}`, onGPUs(1))
	if got := settings(card); card.Engine != "peft" || !strings.HasPrefix(got["training.base_precision"], "bf16: ") || !strings.Contains(got["memory"], "23.0 GiB on NVIDIA L4 of node gpu-1") || card.Waits != "" {
		t.Errorf("on a card: %q %v", card.Waits, got)
	}
	can := map[string]bool{}
	for _, n := range card.Nodes {
		can[n.Node] = n.CanRun
		if n.Reason == "" {
			t.Errorf("nothing is said of %s", n.Node)
		}
	}
	if want := map[string]bool{"box": false, "gpu-1": true, "gpu-2": true, "cpu-1": false}; fmt.Sprint(can) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", can, want)
	}
	if ddp, fsdp := plan(`"training":{"workers":2}`, onGPUs(2)), plan(`"training":{"workers":2,"sharding":"fsdp"}`, onGPUs(2)); fsdp.MemoryBytes >= ddp.MemoryBytes {
		t.Errorf("of each card, a shard takes %d and a replica %d", fsdp.MemoryBytes, ddp.MemoryBytes)
	}
	if s := plan(`"training":{}`, onGPUs(4)); s.Waits == "" || !strings.Contains(s.Waits, "of 4 GPUs") {
		t.Errorf("four cards: %q", s.Waits)
	}
	d := upload(t, c, "t.csv", "text,label\na,b\n")
	spec := ofPEFT(`"training":{}`, onGPUs(1))
	spec.Dataset = d.ID
	j, err := c.SubmitJob(t.Context(), spec)
	if err != nil {
		t.Fatal(err)
	}
	if r := j.Stages[0].Requires; r.GPUMemoryBytes != card.MemoryBytes || r.MemoryBytes != 0 {
		t.Errorf("reserves %+v, planned were %d bytes of a card", r, card.MemoryBytes)
	}
}

// What fits on no node that has the engine is refused, planned or submitted, with the
// field and the nearest settings.
func TestPeftThatFitsNowhereIsRefused(t *testing.T) {
	m := planned(t, 512*gib)
	small := l4
	small.MemoryBytes = 6 * gib
	joined(t, m, "gpu-1", withPEFT(6*gib, 2, small))
	c := m.client(api.RoleUser)
	d := upload(t, c, "t.csv", "text,label\na,b\n")
	for _, tc := range []struct {
		config   string
		pipeline *api.Pipeline
		field    string
		says     []string
	}{
		{`"training":{"method":"full"}`, onGPUs(1), "config.training.method", []string{"6.0 GiB are on NVIDIA L4 of node gpu-1", "training.method=lora ("}},
		{`"training":{"base_precision":"f32"}`, onGPUs(1), "config.training.base_precision", []string{"training.base_precision=bf16 ("}},
		{`"training":{"engine":"peft","base_precision":"f32"}`, nil, "config.training.base_precision", []string{"6.0 GiB are on node gpu-1", "training.engine=native ("}},
		{`"training":{"engine":"peft","workers":2,"base_precision":"int4"}`, nil, "config.training.workers", []string{"training.workers=1 ("}},
		{`"training":{"workers":3}`, onGPUs(2), "config.training.workers", []string{"the stage reserves 2 of GPUs", "requires.gpus of 3"}},
	} {
		spec := ofPEFT(tc.config, tc.pipeline)
		spec.Dataset = d.ID
		_, err := c.SubmitJob(t.Context(), spec)
		var p *api.Problem
		if !errors.As(err, &p) || len(p.Errors) != 1 || p.Errors[0].Field != tc.field {
			t.Errorf("%s: %v", tc.config, err)
			continue
		}
		for _, words := range tc.says {
			if !strings.Contains(p.Errors[0].Message, words) {
				t.Errorf("%s: %q lacks %q", tc.config, p.Errors[0].Message, words)
			}
		}
		if _, perr := c.PlanJob(t.Context(), spec); perr == nil || !strings.HasSuffix(perr.Error(), p.Errors[0].Error()) {
			t.Errorf("the plan says %v, the submit %v", perr, err)
		}
	}
}

// The plan is made for every task on both engines, and refuses for every task.
func TestEveryTaskIsPlanned(t *testing.T) {
	m := planned(t, 16*gib)
	joined(t, m, "cpu-1", withPEFT(16*gib, 0, api.GPU{}))
	c := m.client(api.RoleUser)
	for _, engine := range []string{"native", "peft"} {
		for _, task := range contract.Tasks {
			p, err := c.PlanJob(t.Context(), ofPEFT(fmt.Sprintf(`"task":%q,"training":{"engine":%q}`, task, engine), nil))
			if err != nil {
				t.Fatalf("%s, %s: %v", engine, task, err)
			}
			said := map[string]bool{}
			for _, s := range theTraining(t, p).Settings {
				said[s.Field] = s.Reason != ""
			}
			for _, field := range []string{"training.batch_size", "training.gradient_accumulation", "training.base_precision", "training.learning_rate", "memory"} {
				if !said[field] {
					t.Errorf("%s, %s: nothing is said of %s", engine, task, field)
				}
			}
			_, err = c.PlanJob(t.Context(), ofPEFT(fmt.Sprintf(`"task":%q,"training":{"engine":%q,"method":"full"}`, task, engine), nil))
			if got := faults(t, err); len(got) != 1 || got[0] != "config.training.method" {
				t.Errorf("%s, %s: full training is refused with %v", engine, task, err)
			}
		}
	}
}
