package cli

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
)

// keyPoll is how often an exchange of the gossip's key is looked at.
const keyPoll = time.Second

func (a *app) clusterRotateGossipKey() *cobra.Command {
	var wait bool
	c := &cobra.Command{
		Use:   "rotate-gossip-key",
		Short: "Exchange the key that encrypts the gossip",
		Long: `Exchange the key that encrypts the gossip, while the mesh runs. All members take the new key, then
all send with it, then the old one is forgotten; between two steps each node has three heartbeats
to hear of it. An agent that was away hears of the keys when it comes back. The old key, also that
which the cluster secret gives, is worth nothing afterwards.
With --json: api.GossipKeyStatus.`,
		Example: `  tunemesh cluster rotate-gossip-key
  tunemesh cluster rotate-gossip-key --wait`,
		Args: noArgs,
		RunE: a.clustered(func(c *call, m clusterMesh) error {
			s, err := m.RotateGossipKey(c.ctx)
			if err != nil {
				return err
			}
			if wait {
				if s, err = c.awaitKey(m, s); err != nil {
					return err
				}
			}
			if c.json {
				return c.printJSON(s)
			}
			fmt.Fprintln(c.out, keyText(s))
			return nil
		}),
	}
	c.Flags().BoolVar(&wait, "wait", false, "wait until the old key is forgotten")
	return c
}

// awaitKey returns when no exchange is under way. A mesh that does not answer for
// a while, as in an election, is waited for.
func (c *call) awaitKey(m clusterMesh, s api.GossipKeyStatus) (api.GossipKeyStatus, error) {
	tick := time.NewTicker(keyPoll)
	defer tick.Stop()
	said := ""
	for !s.AtRest() {
		if text := keyText(s); text != said {
			fmt.Fprintln(c.err, text)
			said = text
		}
		select {
		case <-c.ctx.Done():
			return s, &failure{code: ExitInterrupted, title: "interrupted; the exchange of the key goes on", cause: c.ctx.Err()}
		case <-tick.C:
		}
		next, err := m.GossipKey(c.ctx)
		switch {
		case err == nil:
			s = next
		case !nobodyThere(err) && c.ctx.Err() == nil:
			return s, err
		}
	}
	return s, nil
}

func keyText(s api.GossipKeyStatus) string {
	switch {
	case s.Coming != "":
		return fmt.Sprintf("All learn to take the key %s; they send with %s.", s.Coming, s.Primary)
	case s.Going != "":
		return fmt.Sprintf("All send with the key %s; %s is taken still.", s.Primary, s.Going)
	}
	return fmt.Sprintf("The gossip has the key %s, and no other.", s.Primary)
}
