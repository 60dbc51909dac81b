package cli

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
)

func (a *app) tokenCommand() *cobra.Command {
	group := &cobra.Command{
		Use: "token", Aliases: []string{"tokens"},
		Short: "Make, list and revoke tokens",
		Long: `A token of role node lets a workstation join, one of role server a server; those of role viewer,
user and admin are for people, one of role metrics is for Prometheus. A token says which cluster
it is for: whoever has it trusts the right servers. The mesh keeps only hashes.`,
		Example: `  tunemesh token create --role node --ttl 24h --uses 1
  tunemesh token list`,
	}
	group.AddCommand(a.tokenCreate(), a.tokenList(), a.tokenRevoke())
	if a.NewClusterSecret != nil {
		group.AddCommand(a.tokenNewCluster())
	}
	return group
}

func (a *app) tokenCreate() *cobra.Command {
	r := api.TokenRequest{Role: api.RoleNode}
	role := string(api.RoleNode)
	c := &cobra.Command{
		Use:   "create",
		Short: "Make a token, and say what to paste where",
		Long: `Make a token. For the roles node and server it prints one line to paste on the machine that is to
join; for other roles the token alone. It is shown this once.
The line names the address that this command used. Where that is a loopback address, which means
another machine elsewhere, it names the one that the servers advertise, and says so.
With --json: api.TokenReply and the line as "command".`,
		Example: `  tunemesh token create --role node --ttl 1h --uses 1
  tunemesh token create --role server --uses 1
  tunemesh token create --role user --name anna`,
		Args: noArgs,
		RunE: a.clustered(func(c *call, m clusterMesh) error {
			r.Role = api.Role(role)
			reply, err := m.CreateToken(c.ctx, r)
			if err != nil {
				return err
			}
			target, err := c.target()
			if err != nil {
				return err
			}
			address, remark := reachable(target.list(), reply.Servers)
			line := joinLine(reply, address)
			if c.json {
				return c.printJSON(struct {
					api.TokenReply
					Command string `json:"command,omitempty"`
					Remark  string `json:"remark,omitempty"`
				}{reply, line, remark})
			}
			if line == "" {
				fmt.Fprintln(c.out, reply.Token)
				return nil
			}
			if remark != "" {
				fmt.Fprintln(c.err, format.Indent("Note: ", remark, table.DefaultWidth))
			}
			fmt.Fprintln(c.out, line)
			return nil
		}),
	}
	f := c.Flags()
	f.StringVar(&role, "role", role, "node, server, metrics, viewer, user or admin")
	f.StringVar(&r.Name, "name", "", "what `token list` shows")
	f.StringVar(&r.TTL, "ttl", "", "how long it is good, such as 24h (default: until it is revoked)")
	naturalVar(c, &r.Uses, "uses", 0, "how many may join with it (default: any number)")
	_ = c.RegisterFlagCompletionFunc("role", fixed("node", "server", "metrics", "viewer", "user", "admin"))
	return c
}

// joinLine is what to paste on a machine that is to join; empty for tokens of
// people.
func joinLine(r api.TokenReply, address string) string {
	switch r.Info.Role {
	case api.RoleNode:
		return "tunemesh nodeagent --server " + address + " --token " + r.Token
	case api.RoleServer:
		u, err := url.Parse(address)
		if err != nil {
			return ""
		}
		line := "tunemesh controlplane --join " + u.Host + " --token " + r.Token
		if u.Scheme == "http" {
			line += " --plain-http"
		}
		return line
	}
	return ""
}

// reachable chooses the address that other machines are told: the one that was
// used here, unless it is a loopback address and a server advertises another.
func reachable(used, servers []string) (address, remark string) {
	for _, s := range used {
		if !loopback(s) {
			return s, ""
		}
	}
	for _, s := range servers {
		if !loopback(s) {
			return s, fmt.Sprintf("this command talks to a loopback address, which means another machine elsewhere; the line names %s, which the server advertises", s)
		}
	}
	if len(servers) > 0 {
		address = servers[0]
	}
	if len(used) > 0 {
		address = used[0]
	}
	return address, "the servers of this mesh have loopback addresses only: the line works on this machine alone. Start the control plane with an --http-addr, or --advertise, that others reach"
}

func loopback(server string) bool {
	u, err := url.Parse(server)
	if err != nil {
		return false
	}
	host := u.Hostname()
	if strings.EqualFold(host, "localhost") || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		list, err := net.LookupHost(host)
		if err != nil || len(list) == 0 {
			return false
		}
		if ip, err = netip.ParseAddr(list[0]); err != nil {
			return false
		}
	}
	return ip.IsLoopback() || ip.IsUnspecified()
}

func (a *app) tokenList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"},
		Short:   "List the tokens",
		Long:    "List the tokens, newest first. The tokens themselves are shown nowhere: only their hashes are kept.\nWith --json: an array of api.Token.",
		Example: `  tunemesh token list`,
		Args:    noArgs,
		RunE: a.clustered(func(c *call, m clusterMesh) error {
			list, err := m.Tokens(c.ctx)
			if err != nil {
				return err
			}
			if c.json {
				return printList(c, list)
			}
			t := table.Table{Columns: []table.Column{{Title: "ID"}, {Title: "NAME", Shrink: 8}, {Title: "ROLE"}, {Title: "USED", Right: true}, {Title: "EXPIRES"}, {Title: "AGE", Right: true}}}
			for _, token := range list {
				used, expires := "-", "never"
				if token.MaxUses > 0 {
					used = fmt.Sprintf("%d of %d", len(token.UsedBy), token.MaxUses)
				}
				if !token.ExpiresAt.IsZero() {
					expires = "in " + token.ExpiresAt.Sub(c.Now()).Round(time.Minute).String()
					if token.Expired(c.Now()) {
						expires = "expired"
					}
				}
				t.Row(token.ID, token.Name, string(token.Role), used, expires, format.Age(token.CreatedAt, c.Now()))
			}
			return c.table(&t)
		}),
	}
}

func (a *app) tokenRevoke() *cobra.Command {
	return &cobra.Command{
		Use: "revoke ID", Aliases: []string{"rm"},
		Short:   "Revoke a token",
		Long:    "Revoke a token. Nodes that joined with it stay: reject or remove them (tunemesh node).\nWith --json: {\"revoked\": ID}.",
		Example: `  tunemesh token revoke q7f3k2m5x4ab`,
		Args:    exactArgs("ID"),
		RunE: a.clustered(func(c *call, m clusterMesh) error {
			if err := m.RevokeToken(c.ctx, c.args[0]); err != nil {
				return err
			}
			if c.json {
				return c.printJSON(map[string]string{"revoked": c.args[0]})
			}
			fmt.Fprintf(c.out, "%s is revoked.\n", clip(c.args[0]))
			return nil
		}),
	}
}

func (a *app) tokenNewCluster() *cobra.Command {
	return &cobra.Command{
		Use:   "new-cluster",
		Short: "Make the secret that the founders of a new cluster share (needs no mesh)",
		Long: `Make a cluster secret: one line that each founder of a new cluster is given
(controlplane --bootstrap-expect N --cluster-secret-file FILE). The cluster's CA, the keys between
servers and the first administrator's token are derived from it: keep it as you keep the root
password of the servers. It needs no mesh.
With --json: {"cluster_secret"}.`,
		Example: `  umask 077; tunemesh token new-cluster > cluster.secret`,
		Args:    noArgs,
		RunE: a.offline(func(c *call) error {
			secret := c.NewClusterSecret()
			if c.json {
				return c.printJSON(map[string]string{"cluster_secret": secret})
			}
			fmt.Fprintln(c.out, secret)
			return nil
		}),
	}
}
