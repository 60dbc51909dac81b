package api

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Limits of a pipeline.
const (
	MaxStages       = 64
	MaxPipelineSize = 64 << 10 // bytes of JSON
)

// Kinds of built-in stages, in the order of the default pipeline.
var BuiltinKinds = []string{"dataset", "validation", "preprocessing", "training", "evaluation", "export"}

// KindInference serves the job's model until the job is cancelled. It is built
// in, but no part of the default pipeline.
const KindInference = "inference"

// ServedKinds are all kinds that the trainer runs.
var ServedKinds = append(slices.Clone(BuiltinKinds), KindInference)

// KindCustom is a stage that runs the user's own command.
const KindCustom = "custom"

// Pipeline is a DAG of stages.
type Pipeline struct {
	Nodes []StageSpec `json:"nodes" minItems:"1" maxItems:"64"`
	Edges []Edge      `json:"edges,omitempty"`
}

// Edge says that To starts after From has succeeded.
type Edge struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// StageSpec is what a user says of a stage.
type StageSpec struct {
	Name string `json:"name" pattern:"^[a-z][a-z0-9_-]{0,62}$"`
	// Kind is a built-in kind or custom. Empty: the name, if that is a kind.
	Kind string `json:"kind,omitempty" example:"training"`
	// Command runs a custom stage: a program and its arguments.
	Command []string `json:"command,omitempty"`
	// Config is laid over the job's config, key by key at the top level.
	Config        json.RawMessage `json:"config,omitempty"`
	Requires      Requirements    `json:"requires,omitzero"`
	MaxAttempts   int             `json:"max_attempts,omitempty" doc:"default 3" minimum:"0" maximum:"20"`
	Timeout       string          `json:"timeout,omitempty" doc:"Go duration; none by default" example:"2h"`
	MaxDisconnect string          `json:"max_disconnect,omitempty" doc:"how long the stage goes on while its node is unreachable; default 10m for training, 0 else" example:"10m"`
}

// Requirements is what a node must offer.
type Requirements struct {
	CPUCores       int               `json:"cpu_cores,omitempty" minimum:"0"`
	MemoryBytes    int64             `json:"memory_bytes,omitempty" minimum:"0"`
	DiskBytes      int64             `json:"disk_bytes,omitempty" minimum:"0"`
	GPUs           int               `json:"gpus,omitempty" minimum:"0"`
	GPUMemoryBytes int64             `json:"gpu_memory_bytes,omitempty" doc:"free memory of each GPU" minimum:"0"`
	Engine         string            `json:"engine,omitempty" doc:"native or peft" example:"native"`
	Labels         map[string]string `json:"labels,omitempty" doc:"labels that the node must carry"`
}

// DefaultPipeline is the chain of all built-in stages.
func DefaultPipeline() Pipeline {
	var p Pipeline
	for i, kind := range BuiltinKinds {
		p.Nodes = append(p.Nodes, StageSpec{Name: kind, Kind: kind})
		if i > 0 {
			p.Edges = append(p.Edges, Edge{BuiltinKinds[i-1], kind})
		}
	}
	return p
}

var stageName = regexp.MustCompile(`^[a-z][a-z0-9_-]{0,62}$`)

// reservedNames are the pseudo-stages of the contract.
var reservedNames = []string{"source", "model", "init_adapter"}

// Normalize fills in kinds and attempts. Call it before Validate.
func (p Pipeline) Normalize() Pipeline {
	out := Pipeline{Nodes: slices.Clone(p.Nodes), Edges: slices.Clone(p.Edges)}
	for i := range out.Nodes {
		n := &out.Nodes[i]
		if n.Kind == "" {
			n.Kind = KindCustom
			if len(n.Command) == 0 && slices.Contains(ServedKinds, n.Name) {
				n.Kind = n.Name
			}
		}
		if n.MaxAttempts == 0 {
			n.MaxAttempts = 3
		}
		if n.MaxDisconnect == "" && n.Kind == "training" {
			n.MaxDisconnect = "10m"
		}
		if n.Kind != KindCustom && n.Requires.Engine == "" && (n.Kind == "training" || n.Kind == "evaluation" || n.Kind == "export" || n.Kind == KindInference) {
			n.Requires.Engine = "native"
		}
	}
	return out
}

// Validate returns every fault of a normalized pipeline, each with the field's
// path.
func (p Pipeline) Validate() []FieldError {
	var faults []FieldError
	fail := func(field, format string, args ...any) {
		faults = append(faults, FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	if len(p.Nodes) == 0 {
		fail("pipeline.nodes", "is empty: a pipeline needs at least one stage")
	}
	if len(p.Nodes) > MaxStages {
		fail("pipeline.nodes", "has %d stages, at most %d are allowed", len(p.Nodes), MaxStages)
	}
	if data, err := json.Marshal(p); err != nil {
		fail("pipeline", "cannot be encoded: %v", err)
	} else if len(data) > MaxPipelineSize {
		fail("pipeline", "is %d bytes, at most %d are allowed", len(data), MaxPipelineSize)
	}
	known := map[string]bool{}
	for i, n := range p.Nodes {
		field := fmt.Sprintf("pipeline.nodes[%d]", i)
		if !stageName.MatchString(n.Name) {
			fail(field+".name", "is %q: use lower-case letters, digits, - and _, starting with a letter, at most 63", n.Name)
		}
		if slices.Contains(reservedNames, n.Name) {
			fail(field+".name", "%q is reserved", n.Name)
		}
		if known[n.Name] {
			fail(field+".name", "stage %q is there twice", n.Name)
		}
		known[n.Name] = true
		faults = append(faults, n.validate(field)...)
	}
	seen := map[Edge]bool{}
	for i, e := range p.Edges {
		field := fmt.Sprintf("pipeline.edges[%d]", i)
		for _, end := range []string{e.From, e.To} {
			if !known[end] {
				fail(field, "names the unknown stage %q", end)
			}
		}
		if e.From == e.To {
			fail(field, "stage %q follows itself", e.From)
		}
		if seen[e] {
			fail(field, "edge %s -> %s is there twice", e.From, e.To)
		}
		seen[e] = true
	}
	if len(faults) == 0 {
		if cycle := p.cycle(); cycle != nil {
			fail("pipeline.edges", "form a cycle: %s", strings.Join(cycle, " -> "))
		}
	}
	return faults
}

func (n StageSpec) validate(field string) []FieldError {
	var faults []FieldError
	fail := func(f, format string, args ...any) {
		faults = append(faults, FieldError{Field: field + f, Message: fmt.Sprintf(format, args...)})
	}
	switch {
	case n.Kind == KindCustom && (len(n.Command) == 0 || n.Command[0] == ""):
		fail(".command", "is empty: stage %q is custom and needs a program to run", n.Name)
	case n.Kind != KindCustom && len(n.Command) > 0:
		fail(".command", "stage %q is of kind %q and takes no command", n.Name, n.Kind)
	case n.Kind != KindCustom && !slices.Contains(ServedKinds, n.Kind):
		fail(".kind", "is %q, want one of %s or %s", n.Kind, strings.Join(ServedKinds, ", "), KindCustom)
	}
	if n.MaxAttempts < 1 || n.MaxAttempts > 20 {
		fail(".max_attempts", "is %d, want 1 to 20", n.MaxAttempts)
	}
	for name, value := range map[string]string{".timeout": n.Timeout, ".max_disconnect": n.MaxDisconnect} {
		if _, err := parseDuration(value); err != nil {
			fail(name, "is %q, want a duration such as 90s or 2h", value)
		}
	}
	if len(n.Config) > 0 {
		var object map[string]json.RawMessage
		if json.Unmarshal(n.Config, &object) != nil {
			fail(".config", "is no JSON object")
		}
	}
	r := n.Requires
	for name, value := range map[string]int64{"cpu_cores": int64(r.CPUCores), "memory_bytes": r.MemoryBytes, "disk_bytes": r.DiskBytes, "gpus": int64(r.GPUs), "gpu_memory_bytes": r.GPUMemoryBytes} {
		if value < 0 {
			fail(".requires."+name, "is negative")
		}
	}
	slices.SortFunc(faults, func(a, b FieldError) int { return strings.Compare(a.Field, b.Field) })
	return faults
}

// After returns the names of a stage's direct predecessors, in edge order.
func (p Pipeline) After(name string) []string {
	var before []string
	for _, e := range p.Edges {
		if e.To == name {
			before = append(before, e.From)
		}
	}
	return before
}

// Ancestors returns the names of all stages that must succeed before a stage,
// in topological order.
func (p Pipeline) Ancestors(name string) []string {
	wanted := map[string]bool{}
	queue := p.After(name)
	for len(queue) > 0 {
		next := queue[0]
		queue = queue[1:]
		if !wanted[next] {
			wanted[next] = true
			queue = append(queue, p.After(next)...)
		}
	}
	var out []string
	for _, n := range p.TopologicalOrder() {
		if wanted[n] {
			out = append(out, n)
		}
	}
	return out
}

// TopologicalOrder returns the stage names so that each comes after its
// predecessors; among equals the order of Nodes decides (Kahn 1962). It is nil
// for a graph with a cycle.
func (p Pipeline) TopologicalOrder() []string {
	waiting := map[string]int{}
	for _, e := range p.Edges {
		waiting[e.To]++
	}
	placed := map[string]bool{}
	var order []string
	for len(order) < len(p.Nodes) {
		progressed := false
		for _, n := range p.Nodes {
			if placed[n.Name] || waiting[n.Name] > 0 {
				continue
			}
			placed[n.Name] = true
			progressed = true
			order = append(order, n.Name)
			for _, e := range p.Edges {
				if e.From == n.Name {
					waiting[e.To]--
				}
			}
			break
		}
		if !progressed {
			return nil
		}
	}
	return order
}

// cycle returns one cycle's names with the first repeated at the end, or nil.
func (p Pipeline) cycle() []string {
	const (
		unvisited = iota
		onPath
		finished
	)
	state := map[string]int{}
	var path []string
	var visit func(name string) []string
	visit = func(name string) []string {
		state[name] = onPath
		path = append(path, name)
		for _, e := range p.Edges {
			if e.From != name {
				continue
			}
			switch state[e.To] {
			case onPath:
				start := slices.Index(path, e.To)
				return append(slices.Clone(path[start:]), e.To)
			case unvisited:
				if found := visit(e.To); found != nil {
					return found
				}
			}
		}
		path = path[:len(path)-1]
		state[name] = finished
		return nil
	}
	for _, n := range p.Nodes {
		if state[n.Name] == unvisited {
			if found := visit(n.Name); found != nil {
				return found
			}
		}
	}
	return nil
}
