package scheduler_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/scheduler"
)

// fleet is n machines of four shapes, as a company has them.
func fleet(n int) []scheduler.Node {
	nodes := make([]scheduler.Node, n)
	for i := range nodes {
		c := api.Capability{CPU: api.CPU{Cores: 8 << (i % 3)}, MemoryBytes: 32 << 30, DiskBytes: 500 << 30,
			Engines: []api.Engine{{Name: "native", Available: true}}}
		if i%4 == 3 {
			c.Engines = append(c.Engines, api.Engine{Name: "peft", Available: true})
			for g := range 4 {
				c.GPUs = append(c.GPUs, api.GPU{Index: g, Kind: "cuda", Name: "RTX 4090", MemoryBytes: 24 << 30})
			}
		}
		nodes[i] = scheduler.Node{ID: fmt.Sprintf("n-%06d", i), Alive: true, Capability: c,
			Labels: map[string]string{"zone": fmt.Sprint(i % 5)}}
	}
	return nodes
}

// queue is n ready stages of eight demands and three priorities.
func queue(n int) []scheduler.Request {
	shapes := []scheduler.Request{
		{Kind: "preprocessing"},
		{Kind: "training", Requires: api.Requirements{Engine: "native"}},
		{Kind: "evaluation", Requires: api.Requirements{Engine: "native", CPUCores: 2}},
		{Kind: "training", Requires: api.Requirements{Engine: "peft", GPUs: 1, GPUMemoryBytes: 16 << 30}},
		{Kind: "custom", Requires: api.Requirements{CPUCores: 4, MemoryBytes: 8 << 30}},
		{Kind: "training", Requires: api.Requirements{Engine: "peft", GPUs: 4}},
		{Kind: "custom", Requires: api.Requirements{Labels: map[string]string{"zone": "2"}}},
		{Kind: "export", Requires: api.Requirements{Engine: "native", MemoryBytes: 2 << 30}},
	}
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	requests := make([]scheduler.Request, n)
	for i := range requests {
		r := shapes[i%len(shapes)]
		r.JobID, r.Stage, r.Priority = fmt.Sprintf("job-%07d", i*7919%n), "s", i%3
		r.Since = start.Add(time.Duration(i*104729%n) * time.Second)
		requests[i] = r
	}
	return requests
}

// BenchmarkPlan plans a queue of 100,000 stages on an empty fleet: the worst
// plan of all, after a long outage. Later plans place what became free.
func BenchmarkPlan(b *testing.B) {
	for _, nodes := range []int{100, 1_000, 10_000} {
		b.Run(fmt.Sprintf("nodes=%d/queue=100000", nodes), func(b *testing.B) {
			view := scheduler.View{Nodes: fleet(nodes), Requests: queue(100_000)}
			b.ReportAllocs()
			placed := 0
			for b.Loop() {
				placed += len(scheduler.Plan(view, time.Time{}).Placements)
			}
			b.ReportMetric(float64(placed)/b.Elapsed().Seconds(), "placements/s")
			b.ReportMetric(float64(placed)/float64(b.N), "placements/plan")
			b.ReportMetric(100_000*float64(b.N)/b.Elapsed().Seconds(), "stages/s")
		})
	}
}

// BenchmarkPlanManyDemands has 1,000 different demands instead of eight: each
// class looks at each node once.
func BenchmarkPlanManyDemands(b *testing.B) {
	view := scheduler.View{Nodes: fleet(10_000), Requests: queue(100_000)}
	for i := range view.Requests {
		view.Requests[i].Requires.MemoryBytes = int64(i%125) << 20
	}
	placed := 0
	for b.Loop() {
		placed += len(scheduler.Plan(view, time.Time{}).Placements)
	}
	b.ReportMetric(float64(placed)/b.Elapsed().Seconds(), "placements/s")
}

// BenchmarkPlanFull has a fleet without room: what a plan costs when it finds
// nothing, as most do.
func BenchmarkPlanFull(b *testing.B) {
	view := scheduler.View{Nodes: fleet(1_000), Requests: queue(100_000)}
	for i, n := range view.Nodes {
		view.Nodes[i].Used = scheduler.Used{CPUCores: n.Capability.CPU.Cores, GPUs: []int{0, 1, 2, 3}, Slots: []string{scheduler.SlotTraining}}
	}
	for b.Loop() {
		if d := scheduler.Plan(view, time.Time{}); len(d.Waits) != 100_000 {
			b.Fatal("something was placed")
		}
	}
}
