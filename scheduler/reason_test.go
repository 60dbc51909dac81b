package scheduler_test

import (
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/scheduler"
)

func TestWhyAStageWaits(t *testing.T) {
	gpu8 := api.Requirements{GPUs: 1, GPUMemoryBytes: 8 * gib}
	broken := func(n *scheduler.Node) {
		n.Capability.Engines = append(n.Capability.Engines, api.Engine{Name: "peft", Reason: "python3 has no module torch"})
	}
	cpuOnly := func(n *scheduler.Node) {
		n.Capability.Engines = append(n.Capability.Engines, api.Engine{Name: "peft", Available: true, Devices: []string{"cpu"}})
	}
	tests := []struct {
		name   string
		nodes  []scheduler.Node
		kind   string
		needs  api.Requirements
		reason string
	}{
		{"no node at all", nil, "custom", api.Requirements{},
			"no node has joined yet"},
		{"none connected", []scheduler.Node{box("n1", 2, dead)}, "custom", api.Requirements{},
			"no node is connected; nearest: n1, disconnected"},
		{"all draining", []scheduler.Node{box("n1", 2, draining)}, "custom", api.Requirements{},
			"every connected node is draining; nearest: n1, draining"},
		{"no GPU", []scheduler.Node{box("n1", 2)}, "training", gpu8,
			"no node has a GPU with 8 GiB free; nearest: n1, CPU only"},
		{"no GPU, whatever its memory", []scheduler.Node{box("n1", 2)}, "training", api.Requirements{GPUs: 1},
			"no node has a GPU; nearest: n1, CPU only"},
		{"small GPUs", []scheduler.Node{box("n1", 2), box("n2", 2, gpus(4)), box("n3", 2, gpus(6, 2))}, "training", gpu8,
			"no node has a GPU with 8 GiB free; nearest: n3, RTX 4090 with 6 GiB, RTX 4090 with 2 GiB"},
		{"too few GPUs", []scheduler.Node{box("n1", 2, gpus(24)), box("n2", 2, gpus(4, 4, 4, 4, 4))}, "training", api.Requirements{GPUs: 2, GPUMemoryBytes: 8 * gib},
			"no node has 2 GPUs with 8 GiB free each; nearest: n1, RTX 4090 with 24 GiB"},
		{"many GPUs", []scheduler.Node{box("n2", 2, gpus(4, 4, 4, 4, 4))}, "training", gpu8,
			"no node has a GPU with 8 GiB free; nearest: n2, RTX 4090 with 4 GiB, RTX 4090 with 4 GiB, RTX 4090 with 4 GiB, and 2 more"},
		{"the one with the GPU is away", []scheduler.Node{box("n1", 2), box("n2", 2, gpus(24), dead)}, "training", gpu8,
			"no node has a GPU with 8 GiB free; nearest: n1, CPU only (n2 would do but is disconnected)"},
		{"the one with the GPU is draining", []scheduler.Node{box("n1", 2), box("n2", 2, gpus(24), draining)}, "training", gpu8,
			"no node has a GPU with 8 GiB free; nearest: n1, CPU only (n2 would do but is draining)"},
		{"busy GPUs", []scheduler.Node{box("n1", 2), box("n2", 2, gpus(24, 24), used(scheduler.Used{GPUs: []int{0, 1}}))}, "training", gpu8,
			"every node with a GPU with 8 GiB free is busy; nearest: n2, 0 of 2 GPUs free"},
		{"an engine that nobody has", []scheduler.Node{box("n1", 2)}, "training", api.Requirements{Engine: "peft"},
			"no node can run the engine peft; nearest: n1, runs native"},
		{"an engine that sees no GPU", []scheduler.Node{box("n1", 2, cpuOnly)}, "training", api.Requirements{Engine: "peft", GPUs: 1},
			"no node can run the engine peft on a GPU; nearest: n1, runs peft on cpu only"},
		{"an engine that is broken", []scheduler.Node{box("n1", 2, broken)}, "training", api.Requirements{Engine: "peft"},
			"no node can run the engine peft; nearest: n1, python3 has no module torch"},
		{"a label", []scheduler.Node{box("n1", 2), box("n2", 2, labels("zone", "b", "rack", "1"))}, "custom", api.Requirements{Labels: map[string]string{"zone": "a", "rack": "1"}},
			"no node carries rack=1, zone=a; nearest: n2, with zone=b"},
		{"a label nobody carries", []scheduler.Node{box("n1", 2)}, "custom", api.Requirements{Labels: map[string]string{"zone": "a"}},
			"no node carries zone=a; nearest: n1, without zone"},
		{"cores", []scheduler.Node{box("n1", 2), box("n2", 4)}, "custom", api.Requirements{CPUCores: 16},
			"no node has 16 cores; nearest: n2, 4 cores"},
		{"memory", []scheduler.Node{box("n1", 2)}, "custom", api.Requirements{MemoryBytes: 20*gib + gib/2},
			"no node has 20.5 GiB of memory; nearest: n1, 16 GiB"},
		{"disk", []scheduler.Node{box("n1", 2)}, "custom", api.Requirements{DiskBytes: 1000 * gib},
			"no node has 1000 GiB of disk free; nearest: n1, 100 GiB free"},
		{"cores that are busy", []scheduler.Node{box("n1", 2, used(scheduler.Used{CPUCores: 2})), box("n2", 4, used(scheduler.Used{CPUCores: 3}))}, "custom", api.Requirements{CPUCores: 2},
			"no fitting node has 2 cores free now; nearest: n2, 1 of 4 cores free"},
		{"memory that is taken", []scheduler.Node{box("n1", 2, used(scheduler.Used{MemoryBytes: 16*gib - 500<<20}))}, "custom", api.Requirements{MemoryBytes: gib},
			"no fitting node has 1 GiB of memory free now; nearest: n1, 500 MiB free"},
		{"a training already", []scheduler.Node{box("n1", 2, used(scheduler.Used{Slots: []string{"training"}}))}, "training", api.Requirements{},
			"every fitting node is already busy with a training or an evaluation; nearest: n1, one at a time"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := scheduler.Plan(scheduler.View{Nodes: tt.nodes, Requests: []scheduler.Request{want("j", tt.kind, tt.needs)}}, noon)
			if len(d.Placements) != 0 || len(d.Waits) != 1 {
				t.Fatalf("%+v", d)
			}
			if got := d.Waits[0].Reason; got != tt.reason {
				t.Errorf("got  %s\nwant %s", got, tt.reason)
			}
		})
	}
}

func TestTheReasonIsThatOfTheEndOfThePlan(t *testing.T) {
	v := scheduler.View{Nodes: []scheduler.Node{box("n1", 1)}, Requests: []scheduler.Request{
		want("a", "custom", api.Requirements{}), want("b", "custom", api.Requirements{}),
	}}
	d := scheduler.Plan(v, noon)
	if len(d.Waits) != 1 || d.Waits[0].JobID != "b" || d.Waits[0].Reason != "no fitting node has 1 core free now; nearest: n1, 0 of 1 core free" {
		t.Errorf("%+v", d)
	}
}
