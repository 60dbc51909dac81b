package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/nodeagent"
)

func newNodeAgent() *cobra.Command {
	c := nodeagent.Config{}
	var servers []string
	var tokenFile, gossipAddr, metricsAddr string
	var logs logFlags
	cmd := &cobra.Command{
		Use:   "nodeagent",
		Short: "Run the agent of this machine",
		Long: `Runs the node agent until SIGTERM. It dials out only: no port of this machine
needs to be open. Stages that run go on while the agent is restarted, and the
new agent takes them over.

The token (of role node) is read from --token-file or TUNEMESH_TOKEN.`,
		Example: `  tunemesh nodeagent --server http://10.0.0.5:7700 --token-file node.token
  tunemesh nodeagent --server http://10.0.0.5:7700 --token-file node.token --name ws-anna --label room=3.14`,
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
			token := os.Getenv("TUNEMESH_TOKEN")
			if tokenFile != "" {
				if token, err = readToken(tokenFile); err != nil {
					return err
				}
			}
			if token == "" || len(servers) == 0 {
				return exitError{2, errors.New("an agent needs --server, and a token from --token-file or TUNEMESH_TOKEN")}
			}
			g := &gossip{bind: gossipAddr, log: log.With("room", "mesh")}
			c.OnRegistered, c.Logger, c.Version = g.join, log, version
			exported, err := exportMetrics(metricsAddr, &c)
			if err != nil {
				return err
			}
			defer exported.Close()
			agent, err := nodeagent.New(c, client.New(client.Config{Servers: servers, Token: token, UserAgent: "tunemesh-agent/" + version}))
			if err != nil {
				return err
			}
			if err := exported.serve(agent); err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "node %s serves %v\n", agent.NodeID(), servers)
			err = agent.Run(cmd.Context())
			if errors.Is(err, context.Canceled) {
				err = nil
			}
			return errors.Join(err, g.Close())
		},
	}
	f := cmd.Flags()
	f.StringSliceVar(&servers, "server", nil, "base `URL` of a control-plane server; several with commas")
	f.StringVar(&tokenFile, "token-file", "", "`FILE` with a token of role node")
	f.StringVar(&c.Dir, "data-dir", "/var/lib/tunemesh/agent", "`FOLDER` for key, cache, attempts and checkpoints")
	f.StringVar(&c.Name, "name", "", "the node's name (default: the host's)")
	f.StringToStringVar(&c.Labels, "label", nil, "`KEY=VALUE` that stages can require; may be repeated")
	f.StringVar(&gossipAddr, "gossip-addr", "0.0.0.0:0", "`ADDRESS` of gossip")
	f.StringVar(&metricsAddr, "metrics-addr", "127.0.0.1:7704", "`ADDRESS` at which /metrics is served, GPUs included; empty: nowhere. Prometheus finds those that are not loopback by /v1/sd/prometheus")
	logs.define(cmd, "info")
	return cmd
}
