package api_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"pgregory.net/rapid"
)

func custom(names ...string) []api.StageSpec {
	var nodes []api.StageSpec
	for _, n := range names {
		nodes = append(nodes, api.StageSpec{Name: n, Command: []string{"true"}})
	}
	return nodes
}

func TestTheDefaultPipelineIsTheChainOfAllBuiltinStages(t *testing.T) {
	p := api.DefaultPipeline().Normalize()
	if faults := p.Validate(); len(faults) > 0 {
		t.Fatalf("default pipeline is invalid: %v", faults)
	}
	if got := p.TopologicalOrder(); !slices.Equal(got, api.BuiltinKinds) {
		t.Errorf("order %v, want %v", got, api.BuiltinKinds)
	}
	if got := p.Ancestors("training"); !slices.Equal(got, []string{"dataset", "validation", "preprocessing"}) {
		t.Errorf("ancestors of training: %v", got)
	}
}

func TestAFaultyPipelineIsRefusedWithTheNameOfTheFault(t *testing.T) {
	tests := []struct {
		name     string
		pipeline api.Pipeline
		field    string
		words    string
	}{
		{"empty", api.Pipeline{}, "pipeline.nodes", "empty"},
		{"cycle", api.Pipeline{Nodes: custom("a", "b", "c"), Edges: []api.Edge{{From: "a", To: "b"}, {From: "b", To: "c"}, {From: "c", To: "a"}}}, "pipeline.edges", "a -> b -> c -> a"},
		{"self edge", api.Pipeline{Nodes: custom("a"), Edges: []api.Edge{{From: "a", To: "a"}}}, "pipeline.edges[0]", `"a" follows itself`},
		{"unknown node", api.Pipeline{Nodes: custom("a"), Edges: []api.Edge{{From: "a", To: "ghost"}}}, "pipeline.edges[0]", `unknown stage "ghost"`},
		{"duplicate edge", api.Pipeline{Nodes: custom("a", "b"), Edges: []api.Edge{{From: "a", To: "b"}, {From: "a", To: "b"}}}, "pipeline.edges[1]", "a -> b is there twice"},
		{"duplicate node", api.Pipeline{Nodes: custom("a", "a")}, "pipeline.nodes[1].name", `"a" is there twice`},
		{"bad name", api.Pipeline{Nodes: custom("A b")}, "pipeline.nodes[0].name", "lower-case"},
		{"reserved name", api.Pipeline{Nodes: custom("model")}, "pipeline.nodes[0].name", "reserved"},
		{"custom without command", api.Pipeline{Nodes: []api.StageSpec{{Name: "x", Kind: api.KindCustom}}}, "pipeline.nodes[0].command", "needs a program"},
		{"builtin with command", api.Pipeline{Nodes: []api.StageSpec{{Name: "x", Kind: "training", Command: []string{"true"}}}}, "pipeline.nodes[0].command", "takes no command"},
		{"unknown kind", api.Pipeline{Nodes: []api.StageSpec{{Name: "x", Kind: "cooking"}}}, "pipeline.nodes[0].kind", `"cooking"`},
		{"bad duration", api.Pipeline{Nodes: []api.StageSpec{{Name: "x", Command: []string{"true"}, Timeout: "soon"}}}, "pipeline.nodes[0].timeout", `"soon"`},
		{"negative requirement", api.Pipeline{Nodes: []api.StageSpec{{Name: "x", Command: []string{"true"}, Requires: api.Requirements{GPUs: -1}}}}, "pipeline.nodes[0].requires.gpus", "negative"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			faults := tt.pipeline.Normalize().Validate()
			for _, f := range faults {
				if f.Field == tt.field && strings.Contains(f.Message, tt.words) {
					return
				}
			}
			t.Errorf("want a fault %s ... %s, got %v", tt.field, tt.words, faults)
		})
	}
}

func TestTooManyStagesAreRefused(t *testing.T) {
	var names []string
	for i := range api.MaxStages + 1 {
		names = append(names, fmt.Sprintf("s%d", i))
	}
	faults := api.Pipeline{Nodes: custom(names...)}.Normalize().Validate()
	if len(faults) != 1 || faults[0].Field != "pipeline.nodes" {
		t.Errorf("got %v", faults)
	}
}

// A random DAG (edges only from a lower to a higher number, names shuffled)
// validates, and its order puts every predecessor first; one back edge makes a
// cycle that Validate names.
func TestTopologicalOrderOfRandomGraphs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(t, "stages")
		order := rapid.Permutation(seq(n)).Draw(t, "order")
		var p api.Pipeline
		for _, i := range rapid.Permutation(seq(n)).Draw(t, "listing") {
			p.Nodes = append(p.Nodes, api.StageSpec{Name: fmt.Sprintf("s%d", i), Command: []string{"true"}})
		}
		for a := range n {
			for b := a + 1; b < n; b++ {
				if rapid.IntRange(0, 3).Draw(t, "edge") == 0 {
					p.Edges = append(p.Edges, api.Edge{From: fmt.Sprintf("s%d", order[a]), To: fmt.Sprintf("s%d", order[b])})
				}
			}
		}
		p = p.Normalize()
		if faults := p.Validate(); len(faults) > 0 {
			t.Fatalf("a DAG is refused: %v", faults)
		}
		place := map[string]int{}
		for i, name := range p.TopologicalOrder() {
			place[name] = i
		}
		if len(place) != n {
			t.Fatalf("order holds %d of %d stages", len(place), n)
		}
		for _, e := range p.Edges {
			if place[e.From] >= place[e.To] {
				t.Fatalf("%s comes after %s", e.From, e.To)
			}
		}
		if len(p.Edges) > 0 {
			e := p.Edges[rapid.IntRange(0, len(p.Edges)-1).Draw(t, "turned")]
			p.Edges = append(p.Edges, api.Edge{From: e.To, To: e.From})
			if faults := p.Validate(); len(faults) != 1 || !strings.Contains(faults[0].Message, "cycle") {
				t.Fatalf("a cycle is not refused: %v", faults)
			}
			if p.TopologicalOrder() != nil {
				t.Fatal("a cyclic graph has an order")
			}
		}
	})
}

func seq(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func FuzzPipeline(f *testing.F) {
	seed, _ := json.Marshal(api.DefaultPipeline())
	f.Add(seed)
	f.Add([]byte(`{"nodes":[{"name":"a","command":["x"]}],"edges":[{"from":"a","to":"a"}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var p api.Pipeline
		if json.Unmarshal(data, &p) != nil || len(p.Nodes) > 200 || len(p.Edges) > 2000 {
			return
		}
		p = p.Normalize()
		if len(p.Validate()) == 0 && len(p.TopologicalOrder()) != len(p.Nodes) {
			t.Errorf("valid, but without an order: %s", data)
		}
	})
}
