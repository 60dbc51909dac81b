package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
)

// nodeVerb is a verb that changes one node.
func (a *app) nodeVerb(use, short, long, said string, change func(*call, context.Context, clusterMesh, string) (api.Node, error)) *cobra.Command {
	return &cobra.Command{
		Use:               use + " ID",
		Short:             short,
		Long:              long + "\nID may be the node's name where only one has it.\nWith --json: api.Node.",
		Example:           "  tunemesh node " + use + " n-5f0c2b9a7e31",
		Args:              exactArgs("ID"),
		ValidArgsFunction: a.complete(nodeIDs),
		RunE: a.clustered(func(c *call, m clusterMesh) error {
			n, err := c.node(c.args[0])
			if err != nil {
				return err
			}
			changed, err := change(c, c.ctx, m, n.ID)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(changed)
			}
			fmt.Fprintf(c.out, "%s (%s) %s\n", n.ID, format.Clean(n.Name), said)
			return nil
		}),
	}
}

func (a *app) nodeJoining() []*cobra.Command {
	return []*cobra.Command{
		a.nodeVerb("approve", "Let a node that joined run attempts", "Let a node that waits for approval, or was rejected, run attempts.", "may run attempts.",
			func(_ *call, ctx context.Context, m clusterMesh, id string) (api.Node, error) {
				return m.ApproveNode(ctx, id)
			}),
		a.nodeVerb("reject", "Forbid a node to run attempts", "Forbid a node to run attempts. What runs there goes on to its end.", "may not run attempts.",
			func(_ *call, ctx context.Context, m clusterMesh, id string) (api.Node, error) {
				return m.RejectNode(ctx, id)
			}),
		a.nodeVerb("cordon", "Place no new attempts on a node", "Place no new attempts on a node. What runs there goes on to its end.", "gets no new attempts.",
			func(c *call, ctx context.Context, _ clusterMesh, id string) (api.Node, error) {
				return c.mesh.DrainNode(ctx, id, true)
			}),
		a.nodeVerb("uncordon", "Place attempts on a node again", "Let a node that was cordoned or drained take attempts again.", "takes attempts again.",
			func(c *call, ctx context.Context, _ clusterMesh, id string) (api.Node, error) {
				return c.mesh.DrainNode(ctx, id, false)
			}),
		a.nodeVerb("remove", "Forget a node that is gone", "Forget a node and its credential. It must have no live attempts.\nIf it is started again, it needs a join token.", "is forgotten.",
			func(_ *call, ctx context.Context, m clusterMesh, id string) (api.Node, error) {
				return api.Node{ID: id}, m.RemoveNode(ctx, id)
			}),
	}
}
