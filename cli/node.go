package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
)

func (a *app) nodeCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "node", Aliases: []string{"nodes"},
		Short: "Look at the nodes of the mesh, drain or approve one",
		Long:  "A node is a machine that runs an agent; stages run on nodes.",
		Example: `  tunemesh node list
  tunemesh node show n-5f0c2b9a7e31`,
	}
	group.AddCommand(a.nodeList(), a.nodeShow(), a.nodeDrain())
	group.AddCommand(a.nodeJoining()...)
	return group
}

func (a *app) nodeList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"},
		Short: "List the nodes with what they can do",
		Long:  "List the nodes with what they can do.\nWith --json: an array of api.Node.",
		Example: `  tunemesh node list
  tunemesh node list --json | jq '.[] | select(.status == "alive") | .name'`,
		Args: noArgs,
		RunE: a.online(func(c *call) error {
			list, err := c.mesh.Nodes(c.ctx)
			if err != nil {
				return err
			}
			if c.json {
				return printList(c, list)
			}
			if len(list) == 0 {
				fmt.Fprintln(c.out, "No node has joined yet. Start an agent: tunemesh nodeagent --help")
				return nil
			}
			t := table.Table{Columns: []table.Column{{Title: "ID"}, {Title: "NAME", Shrink: 8}, {Title: "STATUS", Paint: c.scr.Style.State}, {Title: "CPU", Right: true}, {Title: "MEMORY", Right: true}, {Title: "GPUS", Shrink: 8}, {Title: "ENGINES", Shrink: 7}, {Title: "RUNS", Right: true}, {Title: "SEEN", Right: true}}}
			for _, n := range list {
				t.Row(n.ID, n.Name, status(n), fmt.Sprint(n.Capability.CPU.Cores), format.Memory(n.Capability.MemoryBytes), gpus(n.Capability.GPUs), engines(n.Capability), fmt.Sprint(n.Running), seen(c, n))
			}
			return c.table(&t)
		}),
	}
}

func status(n api.Node) string {
	if n.Approval != "" {
		return n.Approval
	}
	if n.Drain && n.Status == api.NodeAlive {
		return "draining"
	}
	return string(n.Status)
}

func seen(c *call, n api.Node) string {
	if n.LastSeen == nil {
		return "-"
	}
	return format.Age(*n.LastSeen, c.Now())
}

// gpus writes "2 x NVIDIA RTX 4090".
func gpus(list []api.GPU) string {
	count := map[string]int{}
	for _, g := range list {
		count[g.Name]++
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(count)) {
		if count[name] > 1 {
			name = fmt.Sprintf("%d x %s", count[name], name)
		}
		parts = append(parts, name)
	}
	return strings.Join(parts, ", ")
}

func engines(capability api.Capability) string {
	var parts []string
	for _, e := range capability.Engines {
		if e.Available {
			parts = append(parts, e.Name)
		}
	}
	return strings.Join(parts, ",")
}

func (a *app) nodeShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Aliases: []string{"get"},
		Short: "Show what a node is and can do",
		Long:  "Show what a node is and can do. ID may be the node's name where only one has it.\nWith --json: api.Node.",
		Example: `  tunemesh node show n-5f0c2b9a7e31
  tunemesh node show ws-anna`,
		Args:              exactArgs("ID"),
		ValidArgsFunction: a.complete(nodeIDs),
		RunE: a.online(func(c *call) error {
			n, err := c.node(c.args[0])
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(n)
			}
			c.printNode(n)
			return nil
		}),
	}
}

// node finds a node by its id, or by its name.
func (c *call) node(id string) (api.Node, error) {
	n, err := c.mesh.Node(c.ctx, id)
	if !isNotFound(err) {
		return n, err
	}
	list, listErr := c.mesh.Nodes(c.ctx)
	if listErr != nil {
		return n, err
	}
	list = slices.DeleteFunc(list, func(n api.Node) bool { return n.Name != id })
	switch len(list) {
	case 0:
		return n, err
	case 1:
		return list[0], nil
	}
	return n, wrong("name it by its id: `tunemesh node list` shows them", "%d nodes are called %s", len(list), clip(id))
}

func (c *call) printNode(n api.Node) {
	k := n.Capability
	f := facts{c: c}
	f.add("Node", n.ID)
	f.add("Name", n.Name)
	f.add("Status", status(n))
	if n.LastSeen != nil {
		f.add("Last seen", c.when(*n.LastSeen))
	}
	f.add("Joined", c.when(n.JoinedAt))
	f.add("Running", format.Plural(n.Running, "attempt"))
	f.add("Labels", labels(n.Labels))
	f.add("Agent", strings.TrimSpace(n.Version+fmt.Sprintf(" (protocol %d)", n.Protocol)))
	f.add("System", strings.TrimSpace(k.OS+"/"+k.Arch+"  "+k.Hostname))
	f.add("CPU", strings.TrimSpace(fmt.Sprintf("%s  %s", format.Plural(k.CPU.Cores, "core"), k.CPU.Model)))
	f.add("CPU features", strings.Join(k.CPU.Features, " "))
	f.add("Memory", format.Memory(k.MemoryBytes))
	if k.DiskBytes > 0 {
		f.add("Disk free", format.Memory(k.DiskBytes))
	}
	if len(k.GPUs) == 0 {
		f.add("GPUs", "none")
	}
	for _, g := range k.GPUs {
		f.add(fmt.Sprintf("GPU %d", g.Index), gpuText(g))
	}
	for _, e := range k.Engines {
		f.add("Engine "+e.Name, engineText(e))
	}
	f.add("Launchers", strings.Join(k.Launchers, ", "))
	f.print()
}

func gpuText(g api.GPU) string {
	parts := []string{g.Name, g.Kind}
	memory := format.Memory(g.MemoryBytes)
	if g.MemoryFreeBytes > 0 {
		memory = format.Memory(g.MemoryFreeBytes) + " of " + memory + " free"
	}
	parts = append(parts, memory)
	if g.ComputeCapability != "" {
		parts = append(parts, "compute "+g.ComputeCapability)
	}
	if g.Driver != "" {
		parts = append(parts, "driver "+g.Driver)
	}
	return strings.Join(parts, ", ")
}

func engineText(e api.Engine) string {
	if !e.Available {
		if e.Reason == "" {
			return "not available"
		}
		return "not available: " + e.Reason
	}
	text := "available"
	if len(e.Devices) > 0 {
		text += " on " + strings.Join(e.Devices, ", ")
	}
	if e.Version != "" {
		text += ", version " + e.Version
	}
	if e.Reason != "" {
		text += "; " + e.Reason
	}
	return text
}

func labels(m map[string]string) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		parts = append(parts, key+"="+m[key])
	}
	return strings.Join(parts, " ")
}

func nodeIDs(ctx context.Context, m Mesh, _ []string) ([]string, error) {
	list, err := m.Nodes(ctx)
	var out []string
	for _, n := range list {
		out = append(out, n.ID+"\t"+format.Clean(n.Name)+" "+status(n))
	}
	return out, err
}
