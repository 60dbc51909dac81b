package scheduler_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/scheduler"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

const gib = 1 << 30

// box returns a connected node that runs the native engine.
func box(id string, cores int, change ...func(n *scheduler.Node)) scheduler.Node {
	n := scheduler.Node{ID: id, Name: id, Alive: true, Capability: api.Capability{
		CPU: api.CPU{Cores: cores}, MemoryBytes: 16 * gib, DiskBytes: 100 * gib,
		Engines: []api.Engine{{Name: "native", Available: true}},
	}}
	for _, c := range change {
		c(&n)
	}
	return n
}

func gpus(memory ...int64) func(n *scheduler.Node) {
	return func(n *scheduler.Node) {
		for i, m := range memory {
			n.Capability.GPUs = append(n.Capability.GPUs, api.GPU{Index: i, Name: "RTX 4090", MemoryBytes: m * gib})
		}
		n.Capability.Engines = append(n.Capability.Engines, api.Engine{Name: "peft", Available: true})
	}
}

func used(u scheduler.Used) func(n *scheduler.Node) { return func(n *scheduler.Node) { n.Used = u } }

func labels(kv ...string) func(n *scheduler.Node) {
	return func(n *scheduler.Node) {
		n.Labels = map[string]string{}
		for i := 0; i < len(kv); i += 2 {
			n.Labels[kv[i]] = kv[i+1]
		}
	}
}

func draining(n *scheduler.Node) { n.Drain = true }
func dead(n *scheduler.Node)     { n.Alive = false }

// want is a request of its own job; needs are its requirements.
func want(job, kind string, needs api.Requirements) scheduler.Request {
	return scheduler.Request{JobID: job, Stage: "s", Kind: kind, Requires: needs, Since: noon.Add(-time.Hour)}
}

// where plans and returns "job@node" in order.
func where(v scheduler.View) []string {
	var out []string
	for _, p := range scheduler.Plan(v, noon).Placements {
		out = append(out, p.JobID+"@"+p.NodeID)
	}
	return out
}

func TestWhereStagesGo(t *testing.T) {
	train, light := api.Requirements{Engine: "native"}, api.Requirements{}
	tests := []struct {
		name     string
		nodes    []scheduler.Node
		requests []scheduler.Request
		want     []string
	}{
		{"nothing to do", []scheduler.Node{box("n1", 2)}, nil, nil},
		{"nowhere to go", nil, []scheduler.Request{want("j", "custom", light)}, nil},
		{"a light stage takes one core", []scheduler.Node{box("n1", 2)},
			[]scheduler.Request{want("a", "custom", light), want("b", "dataset", light), want("c", "custom", light)},
			[]string{"a@n1", "b@n1"}},
		{"two trainings do not share a CPU", []scheduler.Node{box("n1", 8)},
			[]scheduler.Request{want("a", "training", train), want("b", "training", train)},
			[]string{"a@n1"}},
		{"a light stage runs beside a training", []scheduler.Node{box("n1", 1)},
			[]scheduler.Request{want("a", "training", train), want("b", "custom", light)},
			[]string{"a@n1", "b@n1"}},
		{"nor do a training and an evaluation", []scheduler.Node{box("n1", 8)},
			[]scheduler.Request{want("a", "evaluation", train), want("b", "training", train)},
			[]string{"a@n1"}},
		{"a training takes the node with most cores free", []scheduler.Node{box("n1", 2), box("n2", 8), box("n3", 4)},
			[]scheduler.Request{want("a", "training", train), want("b", "training", train)},
			[]string{"a@n2", "b@n3"}},
		{"a training that says how many cores is packed like others", []scheduler.Node{box("n1", 8), box("n2", 4)},
			[]scheduler.Request{want("a", "training", api.Requirements{CPUCores: 4})},
			[]string{"a@n2"}},
		{"trainings on GPUs need no slot", []scheduler.Node{box("n1", 8, gpus(24, 24))},
			[]scheduler.Request{want("a", "training", api.Requirements{GPUs: 1}), want("b", "training", api.Requirements{GPUs: 1}), want("c", "training", api.Requirements{GPUs: 1})},
			[]string{"a@n1", "b@n1"}},
		{"GPU memory alone asks for a GPU", []scheduler.Node{box("n1", 8), box("n2", 8, gpus(24))},
			[]scheduler.Request{want("a", "training", api.Requirements{GPUMemoryBytes: 8 * gib})},
			[]string{"a@n2"}},
		{"who needs no GPU leaves them to others", []scheduler.Node{box("n1", 2, gpus(24)), box("n2", 16)},
			[]scheduler.Request{want("a", "custom", light)},
			[]string{"a@n2"}},
		{"the smallest card that does is taken", []scheduler.Node{box("n1", 2, gpus(80)), box("n2", 2, gpus(24)), box("n3", 2, gpus(8))},
			[]scheduler.Request{want("a", "training", api.Requirements{GPUs: 1, GPUMemoryBytes: 16 * gib})},
			[]string{"a@n2"}},
		{"the fullest node that does is taken", []scheduler.Node{box("n1", 16), box("n2", 16, used(scheduler.Used{CPUCores: 12})), box("n3", 16, used(scheduler.Used{CPUCores: 14}))},
			[]scheduler.Request{want("a", "custom", api.Requirements{CPUCores: 4})},
			[]string{"a@n2"}},
		{"what is reserved is not given twice", []scheduler.Node{box("n1", 2, gpus(24), used(scheduler.Used{CPUCores: 1, GPUs: []int{0}, Slots: []string{"training"}}))},
			[]scheduler.Request{want("a", "training", train), want("b", "training", api.Requirements{GPUs: 1}), want("c", "custom", light)},
			[]string{"c@n1"}},
		{"engines", []scheduler.Node{box("n1", 8), box("n2", 2, gpus(8))},
			[]scheduler.Request{want("a", "training", api.Requirements{Engine: "peft"})},
			[]string{"a@n2"}},
		{"labels", []scheduler.Node{box("n1", 8, labels("zone", "a")), box("n2", 8, labels("zone", "b", "rack", "1"))},
			[]scheduler.Request{want("a", "custom", api.Requirements{Labels: map[string]string{"zone": "b", "rack": "1"}}), want("b", "custom", api.Requirements{Labels: map[string]string{"zone": "c"}})},
			[]string{"a@n2"}},
		{"memory and disk", []scheduler.Node{box("n1", 8)},
			[]scheduler.Request{want("a", "custom", api.Requirements{MemoryBytes: 17 * gib}), want("b", "custom", api.Requirements{DiskBytes: 101 * gib}), want("c", "custom", api.Requirements{MemoryBytes: 16 * gib, DiskBytes: 100 * gib})},
			[]string{"c@n1"}},
		{"no one goes to a dead or draining node", []scheduler.Node{box("n1", 8, draining), box("n2", 8, dead)},
			[]scheduler.Request{want("a", "custom", light)}, nil},
		{"a large stage does not hold up the small ones", []scheduler.Node{box("n1", 2)},
			[]scheduler.Request{want("a", "custom", api.Requirements{CPUCores: 64}), want("b", "custom", light)},
			[]string{"b@n1"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := where(scheduler.View{Nodes: tt.nodes, Requests: tt.requests}); !slices.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestHigherPriorityFirstThenOlderThenByName(t *testing.T) {
	v := scheduler.View{Nodes: []scheduler.Node{box("n1", 4)}}
	for _, r := range []struct {
		job      string
		priority int
		age      time.Duration
	}{{"e", 0, 0}, {"d", 0, time.Hour}, {"c", 0, time.Hour}, {"b", 5, 0}, {"a", -5, 24 * time.Hour}} {
		q := want(r.job, "custom", api.Requirements{})
		q.Priority, q.Since = r.priority, noon.Add(-r.age)
		v.Requests = append(v.Requests, q)
	}
	if got := where(v); !slices.Equal(got, []string{"b@n1", "c@n1", "d@n1", "e@n1"}) {
		t.Errorf("got %v", got)
	}
}

func TestABackoffIsWaitedFor(t *testing.T) {
	early, late := want("a", "custom", api.Requirements{}), want("b", "custom", api.Requirements{})
	early.NotBefore, late.NotBefore = noon.Add(time.Second), noon.Add(time.Minute)
	v := scheduler.View{Nodes: []scheduler.Node{box("n1", 4)}, Requests: []scheduler.Request{late, early}}
	d := scheduler.Plan(v, noon)
	if len(d.Placements) != 0 || !d.NextAt.Equal(early.NotBefore) || d.Waits[0].Reason != "the next attempt may start at 2026-11-24T12:00:01Z" {
		t.Errorf("%+v", d)
	}
	if d = scheduler.Plan(v, noon.Add(time.Second)); len(d.Placements) != 1 || !d.NextAt.Equal(late.NotBefore) {
		t.Errorf("%+v", d)
	}
	if d = scheduler.Plan(v, noon.Add(time.Hour)); len(d.Placements) != 2 || !d.NextAt.IsZero() {
		t.Errorf("%+v", d)
	}
}

func TestAPlacementSaysWhatItReserves(t *testing.T) {
	free := func(n *scheduler.Node) { n.Capability.GPUs[0].MemoryFreeBytes = 2 * gib }
	v := scheduler.View{
		Nodes: []scheduler.Node{box("n1", 4, gpus(24, 48, 24, 80), free)},
		Requests: []scheduler.Request{
			want("a", "training", api.Requirements{GPUs: 2, GPUMemoryBytes: 20 * gib, Engine: "peft", MemoryBytes: gib}),
			want("b", "training", api.Requirements{Engine: "native"}),
			want("c", "export", api.Requirements{Engine: "native", CPUCores: 3}),
		},
	}
	want := []api.Devices{
		{CPUCores: 1, MemoryBytes: gib, GPUs: []int{1, 2}, GPUMemoryBytes: 24 * gib, Engine: "peft"}, // card 0 has 2 GiB free; card 1 is the smaller one
		{Engine: "native"},
		{CPUCores: 3, Engine: "native"},
	}
	for i, p := range scheduler.Plan(v, noon).Placements {
		if fmt.Sprint(p.Devices) != fmt.Sprint(want[i]) {
			t.Errorf("%s: got %+v, want %+v", p.JobID, p.Devices, want[i])
		}
		if (p.Slot == scheduler.SlotTraining) != (p.JobID == "b") {
			t.Errorf("%s has the slot %q", p.JobID, p.Slot)
		}
	}
}
