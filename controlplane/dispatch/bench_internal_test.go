package dispatch

import (
	"fmt"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/scheduler"
)

// What a round of the loops costs where there are 10,000 nodes and little changes.
func BenchmarkView(b *testing.B) {
	s, _ := state.New()
	index := uint64(0)
	do := func(c state.Command) {
		e, err := state.Encode(c)
		if err != nil {
			b.Fatal(err)
		}
		index++
		if _, err := s.Apply(index, e); err != nil {
			b.Fatal(err)
		}
	}
	for i := range 10000 {
		do(state.UpsertNode{At: time.Now(), Node: api.Node{ID: fmt.Sprintf("n%d", i), Name: "x", Digest: "d", Capability: api.Capability{CPU: api.CPU{Cores: 12}, MemoryBytes: 64 << 30, Engines: []api.Engine{{Name: "native", Available: true, Devices: []string{"cpu"}}}, Launchers: []string{"local"}}}})
	}
	do(state.CreateJob{Spec: api.JobSpec{ID: "j"}, Pipeline: api.Pipeline{Nodes: []api.StageSpec{{Name: "a", MaxAttempts: 3, Requires: api.Requirements{CPUCores: 1}}}}, At: time.Now()})
	t := newTerm(Config{Store: s}.withDefaults())
	for i := range 10000 {
		t.heartbeat(fmt.Sprintf("n%d", i), api.Heartbeat{Digest: "d"})
	}
	used := reserved{}
	b.Run("view", func(b *testing.B) {
		for b.Loop() {
			t.view(&used)
		}
	})
	v := t.view(&used)
	b.Run("plan", func(b *testing.B) {
		for b.Loop() {
			scheduler.Plan(v, time.Now())
		}
	})
	b.Run("nodes", func(b *testing.B) {
		for b.Loop() {
			s.Nodes()
		}
	})
	b.Run("judge", func(b *testing.B) {
		for b.Loop() {
			t.judge(time.Now())
		}
	})
}
