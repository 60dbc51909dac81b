package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
)

// clusterMesh is what the verbs on servers, tokens and joining need of the mesh;
// *client.Client has it.
type clusterMesh interface {
	Peers(ctx context.Context) ([]api.Peer, error)
	Gossip(ctx context.Context) (api.Gossip, error)
	GossipKey(ctx context.Context) (api.GossipKeyStatus, error)
	RotateGossipKey(ctx context.Context) (api.GossipKeyStatus, error)
	RemovePeer(ctx context.Context, id string, force bool) ([]api.Peer, error)
	TransferLeadership(ctx context.Context, to string) error
	LeaveCluster(ctx context.Context) error
	ClusterSettings(ctx context.Context) (api.ClusterSettings, error)
	SetClusterSettings(ctx context.Context, s api.ClusterSettings) (api.ClusterSettings, error)
	CreateToken(ctx context.Context, r api.TokenRequest) (api.TokenReply, error)
	Tokens(ctx context.Context) ([]api.Token, error)
	RevokeToken(ctx context.Context, id string) error
	ApproveNode(ctx context.Context, id string) (api.Node, error)
	RejectNode(ctx context.Context, id string) (api.Node, error)
	RemoveNode(ctx context.Context, id string) error
}

func (c *call) cluster() (clusterMesh, error) {
	m, ok := c.mesh.(clusterMesh)
	if !ok {
		return nil, errors.New("this connection does not know clusters")
	}
	return m, nil
}

// clustered wraps a verb on the cluster.
func (a *app) clustered(run func(*call, clusterMesh) error) func(*cobra.Command, []string) error {
	return a.online(func(c *call) error {
		m, err := c.cluster()
		if err != nil {
			return err
		}
		return run(c, m)
	})
}

func (a *app) clusterCommand() *cobra.Command {
	group := &cobra.Command{
		Use:   "cluster",
		Short: "Look at the servers of the control plane, change them",
		Long: `The control plane is one server, or several that agree by Raft: of three one may fail, of five two.
A server joins with a token of role server (tunemesh token create --role server); it follows first
and votes when it has caught up.`,
		Example: `  tunemesh cluster peers
  tunemesh cluster transfer-leader s2`,
	}
	group.AddCommand(a.clusterPeers(), a.clusterGossip(), a.clusterRemove(), a.clusterTransfer(), a.clusterLeave(), a.clusterSettings(), a.clusterRotateGossipKey())
	if a.Recover != nil {
		group.AddCommand(a.clusterRecover())
	}
	return group
}

func (a *app) clusterPeers() *cobra.Command {
	return &cobra.Command{
		Use: "peers", Aliases: []string{"list", "ls"},
		Short: "List the servers",
		Long:  "List the servers as the leader sees them.\nWith --json: an array of api.Peer.",
		Example: `  tunemesh cluster peers
  tunemesh cluster peers --json | jq -r '.[] | select(.leader) | .name'`,
		Args: noArgs,
		RunE: a.clustered(func(c *call, m clusterMesh) error {
			list, err := m.Peers(c.ctx)
			if err != nil {
				return err
			}
			return c.printPeers(list)
		}),
	}
}

func (c *call) printPeers(list []api.Peer) error {
	if c.json {
		return printList(c, list)
	}
	t := table.Table{Columns: []table.Column{{Title: "NAME", Shrink: 8}, {Title: "ID"}, {Title: "ROLE"}, {Title: "VOTES"}, {Title: "REACHABLE"}, {Title: "LAG", Right: true}, {Title: "URL", Shrink: 16}, {Title: "VERSION", Shrink: 6}}}
	for _, p := range list {
		role, votes, reachable, lag := "follower", "yes", "yes", fmt.Sprint(p.Lag)
		if p.Leader {
			role = "leader"
		}
		if p.Suffrage != api.Voter {
			votes = "not yet"
		}
		if !p.Reachable {
			reachable, lag = "no", "-"
		}
		t.Row(p.Name, p.ID, role, votes, reachable, lag, p.URL, p.Version)
	}
	return c.table(&t)
}

func (a *app) clusterGossip() *cobra.Command {
	return &cobra.Command{
		Use:   "gossip",
		Short: "Show whom a server sees by gossip",
		Long: `Show which servers and agents the server that is asked sees by gossip. Gossip is a hint that spreads
without the leader; a node that it cannot reach, behind NAT, is a full member all the same.
With --json: api.Gossip.`,
		Example: `  tunemesh cluster gossip
  tunemesh cluster gossip --server https://10.0.0.7:7700 --json | jq -r '.members[].name'`,
		Args: noArgs,
		RunE: a.clustered(func(c *call, m clusterMesh) error {
			g, err := m.Gossip(c.ctx)
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(g)
			}
			t := table.Table{Columns: []table.Column{{Title: "NAME", Shrink: 8}, {Title: "ID"}, {Title: "ROLE"}, {Title: "GOSSIP"}}}
			for _, k := range g.Members {
				t.Row(k.Name, k.ID, k.Role, k.Address)
			}
			if err := c.table(&t); err != nil {
				return err
			}
			fmt.Fprintf(c.err, "As %s sees it.\n", format.Clean(g.Name))
			return nil
		}),
	}
}

func peerIDs(ctx context.Context, m Mesh, _ []string) ([]string, error) {
	cm, ok := m.(clusterMesh)
	if !ok {
		return nil, nil
	}
	list, err := cm.Peers(ctx)
	var out []string
	for _, p := range list {
		out = append(out, p.Name+"\t"+p.ID, p.ID+"\t"+format.Clean(p.Name))
	}
	return out, err
}

func (a *app) clusterRemove() *cobra.Command {
	var force bool
	c := &cobra.Command{
		Use: "remove SERVER", Aliases: []string{"rm"},
		Short: "Remove a server that is gone",
		Long: `Remove a server, by its name or id. It is for a server that does not come back; one that runs leaves
by itself (tunemesh cluster leave), and one that lost its disk is just started again.
Refused where the servers that stay and can be reached are no quorum.
With --json: the servers that stay, an array of api.Peer.`,
		Example: `  tunemesh cluster remove s3
  tunemesh cluster remove s-5f0c2b9a7e31 --force`,
		Args:              exactArgs("SERVER"),
		ValidArgsFunction: a.complete(peerIDs),
		RunE: a.clustered(func(c *call, m clusterMesh) error {
			list, err := m.RemovePeer(c.ctx, c.args[0], force)
			if err != nil {
				return err
			}
			if c.json {
				return printList(c, list)
			}
			fmt.Fprintf(c.out, "%s is removed; %s.\n", clip(c.args[0]), format.Plural(len(list), "server")+" stay")
			return nil
		}),
	}
	c.Flags().BoolVar(&force, "force", false, "also where those that stay are no quorum")
	return c
}

func (a *app) clusterTransfer() *cobra.Command {
	return &cobra.Command{
		Use: "transfer-leader [SERVER]", Aliases: []string{"transfer"},
		Short: "Let another server lead",
		Long: `Let another server lead: SERVER, by name or id, or the one that is furthest. Writes wait for the
moment that it takes; nothing is lost.
With --json: the servers afterwards, an array of api.Peer.`,
		Example: `  tunemesh cluster transfer-leader
  tunemesh cluster transfer-leader s2`,
		Args:              atMost(1),
		ValidArgsFunction: a.complete(peerIDs),
		RunE: a.clustered(func(c *call, m clusterMesh) error {
			to := ""
			if len(c.args) == 1 {
				to = c.args[0]
			}
			before, err := m.Peers(c.ctx)
			if err != nil {
				return err
			}
			if err := m.TransferLeadership(c.ctx, to); err != nil {
				return err
			}
			list, err := c.newLeader(m, leaderOf(before), to)
			if err != nil {
				return err
			}
			if c.json {
				return printList(c, list)
			}
			for _, p := range list {
				if p.Leader {
					fmt.Fprintf(c.out, "%s (%s) leads.\n", format.Clean(p.Name), p.ID)
				}
			}
			return nil
		}),
	}
}

func leaderOf(list []api.Peer) string {
	for _, p := range list {
		if p.Leader {
			return p.ID
		}
	}
	return ""
}

// newLeader waits until another server than before, or the named one, leads.
func (c *call) newLeader(m clusterMesh, before, to string) ([]api.Peer, error) {
	ctx, cancel := context.WithTimeout(c.ctx, 15*time.Second)
	defer cancel()
	for {
		list, err := m.Peers(ctx)
		for _, p := range list {
			if p.Leader && (p.ID != before || to != "" && (p.ID == to || p.Name == to)) {
				return list, nil
			}
		}
		select {
		case <-ctx.Done():
			if c.ctx.Err() != nil {
				return nil, c.ctx.Err()
			}
			return nil, errors.Join(errors.New("no other server leads after 15 s: tunemesh cluster peers"), err)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

func (a *app) clusterLeave() *cobra.Command {
	return &cobra.Command{
		Use:   "leave",
		Short: "Let the server that is asked leave the cluster and end",
		Long: `Let the server named by --server leave the cluster: it hands over if it leads, is removed, puts
aside what it keeps of the cluster, and its process ends. The others go on. To join again it needs
a token, or the cluster secret.
With --json: {"left": true}.`,
		Example: `  tunemesh cluster leave --server https://10.0.0.7:7700`,
		Args:    noArgs,
		RunE: a.clustered(func(c *call, m clusterMesh) error {
			if err := m.LeaveCluster(c.ctx); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]bool{"left": true})
			}
			fmt.Fprintln(c.out, "The server has left the cluster and ends.")
			return nil
		}),
	}
}

func (a *app) clusterSettings() *cobra.Command {
	var approval bool
	c := &cobra.Command{
		Use:   "settings",
		Short: "Show the cluster's settings, or change those that are given",
		Long:  "Show the cluster's settings, or change those that are given as flags.\nWith --json: api.ClusterSettings.",
		Example: `  tunemesh cluster settings
  tunemesh cluster settings --require-approval
  tunemesh cluster settings --require-approval=false`,
		Args: noArgs,
		RunE: a.clustered(func(c *call, m clusterMesh) error {
			s, err := m.ClusterSettings(c.ctx)
			if err == nil && c.cmd.Flags().Changed("require-approval") {
				s.RequireApproval = approval
				s, err = m.SetClusterSettings(c.ctx, s)
			}
			if err != nil {
				return err
			}
			if c.json {
				return c.printJSON(s)
			}
			text := "no: nodes with a token run attempts at once"
			if s.RequireApproval {
				text = "yes: nodes that join wait for `tunemesh node approve`"
			}
			f := facts{c: c}
			f.add("Require approval", text)
			f.print()
			return nil
		}),
	}
	c.Flags().BoolVar(&approval, "require-approval", false, "nodes that join wait until they are approved")
	return c
}
