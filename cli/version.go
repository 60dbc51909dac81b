package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
)

// versions is the JSON of the verb version.
type versions struct {
	Client api.Version  `json:"client"`
	Server *api.Version `json:"server,omitempty"`
}

func (a *app) versionCommand() *cobra.Command {
	var clientOnly bool
	c := &cobra.Command{
		Use:   "version",
		Short: "Say what this program and the server are",
		Long: `Say what this program and the server are. A server that does not answer is no error.
With --json: {"client": api.Version, "server": api.Version or absent}.`,
		Example: `  tunemesh version
  tunemesh version --client --json`,
		Args: noArgs,
		RunE: a.offline(func(c *call) error {
			v := versions{Client: c.Version}
			remark := "not asked"
			if !clientOnly {
				v.Server, remark = c.serverVersion()
			}
			if c.json {
				return c.printJSON(v)
			}
			f := facts{c: c}
			f.add("Client", versionText(v.Client))
			if v.Server != nil {
				f.add("Server", versionText(*v.Server))
			} else if !clientOnly {
				f.add("Server", remark)
			}
			f.print()
			return nil
		}),
	}
	c.Flags().BoolVar(&clientOnly, "client", false, "ask no server")
	return c
}

// serverVersion asks the server, for a short while.
func (c *call) serverVersion() (*api.Version, string) {
	target, err := c.target()
	if err != nil {
		return nil, explain(err).title
	}
	mesh, err := c.connect(target, -1)
	if err != nil {
		return nil, explain(err).title
	}
	ctx, cancel := context.WithTimeout(c.ctx, 3*time.Second)
	defer cancel()
	v, err := mesh.Version(ctx)
	if err != nil {
		return nil, explain(err).title
	}
	return &v, ""
}

func versionText(v api.Version) string {
	s := "tunemesh " + v.Version
	if v.Commit != "" {
		s += " (" + v.Commit + ")"
	}
	return fmt.Sprintf("%s, %s, protocol %d", s, v.Go, v.Protocol)
}
