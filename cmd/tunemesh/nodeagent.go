package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/nodeagent"
)

func newNodeAgent() *cobra.Command {
	c := nodeagent.Config{}
	var servers []string
	var skip bool
	var token, tokenFile, gossipAddr, metricsAddr string
	var logs logFlags
	cmd := &cobra.Command{
		Use:   "nodeagent",
		Short: "Run the agent of this machine",
		Long: `Runs the node agent until SIGTERM. It dials out only: no port of this machine
needs to be open. Stages that run go on while the agent is restarted, and the
new agent takes them over.

At its first start it joins with a token of role node (tunemesh token create),
from --token, --token-file or TUNEMESH_TOKEN. The mesh then knows it by the key
in its data folder and gives it a credential of its own: later starts need
neither token nor --server, and another address or host name does not make it
another node. With several --server the others are asked when one fails; those
that the mesh tells of are added.`,
		Example: `  tunemesh nodeagent --server https://10.0.0.5:7700 --token M1...
  tunemesh nodeagent --server https://10.0.0.5:7700 --token-file node.token --name ws-anna --label room=3.14`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logs.logger()
			if err != nil {
				return err
			}
			stop, err := startTracing(cmd.Context(), "tunemesh-nodeagent")
			if err != nil {
				return err
			}
			defer stop()
			if tokenFile != "" {
				if token, err = readToken(tokenFile); err != nil {
					return err
				}
			}
			j := joining{dir: c.Dir, name: c.Name, servers: servers, token: cmp.Or(token, os.Getenv("TUNEMESH_TOKEN")), preflight: !skip, log: log}
			cp, err := j.join(cmd.Context())
			if err != nil {
				return err
			}
			defer cp.Close()
			g := &gossip{bind: gossipAddr, log: log.With("room", "mesh")}
			c.OnRegistered = func(r api.RegistrationReply) { j.registered(cp, r); g.join(r) }
			c.GossipKeys = g.digest
			c.Logger, c.Version = log, version
			exported, err := exportMetrics(metricsAddr, &c)
			if err != nil {
				return err
			}
			defer exported.Close()
			agent, err := nodeagent.New(c, cp)
			if err != nil {
				return err
			}
			if err := exported.serve(agent, g); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "node %s serves %v\n", agent.NodeID(), j.servers)
			err = agent.Run(cmd.Context())
			if errors.Is(err, context.Canceled) {
				err = nil
			}
			return errors.Join(err, g.Close())
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&servers, "server", nil, "base `URL` of a control-plane server; several with commas")
	f.BoolVar(&skip, "skip-preflight", false, "join although the checks of tunemesh doctor fail")
	f.StringVar(&token, "token", "", "`TOKEN` of role node, for the first start")
	f.StringVar(&tokenFile, "token-file", "", "`FILE` with a token of role node, for the first start")
	f.StringVar(&c.Dir, "data-dir", "/var/lib/tunemesh/agent", "`FOLDER` for key, cache, attempts and checkpoints")
	f.StringVar(&c.Name, "name", "", "the node's name (default: the host's)")
	f.StringToStringVar(&c.Labels, "label", nil, "`KEY=VALUE` that stages can require; may be repeated")
	f.Int64Var(&c.SpoolBytes, "spool-bytes", 1<<30, "`BYTES` of output that a running attempt keeps, and all ended ones together, until it is archived; beyond, the oldest lines go and an event says which")
	f.StringVar(&gossipAddr, "gossip-addr", "0.0.0.0:0", "`ADDRESS` of gossip")
	f.StringVar(&metricsAddr, "metrics-addr", "127.0.0.1:7704", "`ADDRESS` at which /metrics is served, GPUs included; empty: nowhere. Prometheus finds those that are not loopback by /v1/sd/prometheus")
	logs.define(cmd, "info")
	return cmd
}
