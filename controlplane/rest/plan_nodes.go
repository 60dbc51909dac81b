package rest

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/plan"
)

// best is what the node that suits a training most has to give, and what is to be
// said of each node. Where none has the engine, it is the one that would be best with
// it; without any, nothing is known, and nothing refused.
func best(nodes []api.Node, n api.StageSpec, c contract.TrainingConfig) (plan.Machine, []api.PlanNode) {
	m := plan.Machine{}
	if n.Requires.Engine == "peft" {
		m.Torch = torchOn(n, api.GPU{Kind: "rocm"}, c) // BF16, as most cards today
	}
	said := []api.PlanNode{}
	rank := 0 // of m: 1 for a node that lacks the engine alone, 2 for one that suits
	for i := range nodes {
		node := &nodes[i]
		can, why := suits(node, n)
		said = append(said, api.PlanNode{Node: cmp.Or(node.Name, node.ID), CanRun: can, Reason: why})
		other, its := plan.Machine{}, 0
		switch {
		case can:
			other, its = machineOf(node, n, c), 2
		case lacksTheEngineAlone(node, n):
			other, its = machineOf(node, n, c), 1
			other.Whose += " once it has the engine"
		default:
			continue
		}
		if its > rank || its == rank && other.Memory > m.Memory {
			m, rank = other, its
		}
	}
	return m, said
}

// suits says whether a node could take a training whatever its memory, and in words
// on what, or why not. The checks come in the scheduler's order.
func suits(node *api.Node, n api.StageSpec) (bool, string) {
	engine, gpus := n.Requires.Engine, gpusOf(n)
	switch {
	case node.Approval != "":
		return false, "is not approved yet"
	case node.Drain:
		return false, "draining"
	case !node.Capability.RunsEngine(engine, gpus > 0):
		return false, node.Capability.LacksEngine(engine)
	case !hasLabels(node.Labels, n.Requires.Labels):
		return false, "without the labels that the stage requires"
	case gpus > len(node.Capability.GPUs):
		return false, fmt.Sprintf("has %d of %d GPUs", len(node.Capability.GPUs), gpus)
	}
	if engine == "peft" && gpus > 0 {
		g := cards(node)[gpus-1]
		return true, fmt.Sprintf("%s with %s", g.Name, plan.Bytes(g.MemoryBytes))
	}
	why := fmt.Sprintf("CPU, %s", plan.Bytes(node.Capability.MemoryBytes))
	if i := slices.IndexFunc(node.Capability.Engines, func(e api.Engine) bool { return e.Name == engine }); i >= 0 && node.Capability.Engines[i].Version != "" {
		why += ", " + node.Capability.Engines[i].Version
	}
	return true, why
}

// lacksTheEngineAlone says whether a node would suit a training if the engine were
// installed on it.
func lacksTheEngineAlone(node *api.Node, n api.StageSpec) bool {
	with := *node
	with.Capability.Engines = []api.Engine{{Name: n.Requires.Engine, Available: true}}
	can, _ := suits(&with, n)
	return can
}

// machineOf is what a node has to give to a training that it suits.
func machineOf(node *api.Node, n api.StageSpec, c contract.TrainingConfig) plan.Machine {
	m := plan.Machine{Memory: node.Capability.MemoryBytes, Cores: node.Capability.CPU.Cores,
		Whose: fmt.Sprintf("on node %s, which has the most", node.Name)}
	if n.Requires.Engine == "peft" {
		m.Torch = torchOn(n, api.GPU{}, c)
		if gpus := gpusOf(n); gpus > 0 {
			g := cards(node)[gpus-1] // the smallest of those that would be taken
			m.Torch = torchOn(n, g, c)
			m.Memory, m.Whose = g.MemoryBytes, fmt.Sprintf("on %s of node %s, which has the largest", g.Name, node.Name)
		}
		return m
	}
	m.BF16 = slices.Contains(node.Capability.CPU.Features, "avx512_bf16")
	if len(node.Capability.CPU.Features) > 0 {
		m.Kernels = plan.PureGo
	}
	for _, isa := range []string{"avx512f", "avx2"} {
		if slices.Contains(node.Capability.CPU.Features, isa) {
			m.Kernels = isa
			break
		}
	}
	return m
}

// torchOn is how peft computes on a card, or on the CPU where the stage reserves none.
// PyTorch counts NVIDIA's cards from compute capability 8.0 on, and all of AMD's, among
// those that compute in BF16 (torch.cuda.is_bf16_supported).
func torchOn(n api.StageSpec, g api.GPU, c contract.TrainingConfig) *plan.Torch {
	if gpusOf(n) == 0 {
		return plan.TorchOn("cpu", false, c)
	}
	switch g.Kind {
	case "metal":
		return plan.TorchOn("mps", false, c)
	case "rocm":
		return plan.TorchOn("cuda", true, c)
	}
	major, _, _ := strings.Cut(g.ComputeCapability, ".")
	version, err := strconv.Atoi(major)
	return plan.TorchOn("cuda", err == nil && version >= 8, c)
}

// cards are a node's GPUs, the largest first.
func cards(node *api.Node) []api.GPU {
	return slices.SortedStableFunc(slices.Values(node.Capability.GPUs), func(a, b api.GPU) int { return cmp.Compare(b.MemoryBytes, a.MemoryBytes) })
}

// gpusOf counts the GPUs that a stage reserves.
func gpusOf(n api.StageSpec) int {
	if n.Requires.GPUMemoryBytes > 0 {
		return max(n.Requires.GPUs, 1)
	}
	return n.Requires.GPUs
}

// tooFewGPUs is the fault of a training whose workers would not have a GPU each.
func tooFewGPUs(c contract.TrainingConfig, n api.StageSpec) (api.FieldError, bool) {
	gpus := gpusOf(n)
	if n.Requires.Engine != "peft" || gpus == 0 || c.Workers <= gpus {
		return api.FieldError{}, false
	}
	return api.FieldError{Field: "training.workers",
		Message: fmt.Sprintf("is %d, but the stage reserves %d of GPUs, and each worker needs one: want requires.gpus of %d, or %d here", c.Workers, gpus, c.Workers, gpus)}, true
}

// waits says why a job that is submitted now would not start, in the words in which
// its stage will wait.
func waits(n api.StageSpec, nodes []api.Node, said []api.PlanNode) string {
	switch {
	case len(nodes) == 0:
		return api.NoNode
	case slices.ContainsFunc(said, func(p api.PlanNode) bool { return p.CanRun }):
		return ""
	}
	gpu := gpusOf(n) > 0
	for i := range nodes {
		if c := nodes[i].Capability; c.RunsEngine(n.Requires.Engine, gpu) {
			return fmt.Sprintf("no node suits the stage; nearest: %s, %s", said[i].Node, said[i].Reason)
		}
	}
	return fmt.Sprintf("%s; nearest: %s, %s", api.NoEngine(n.Requires.Engine, gpu), said[0].Node, said[0].Reason)
}

func hasLabels(have, want map[string]string) bool {
	for k, v := range want {
		if have[k] != v {
			return false
		}
	}
	return true
}
