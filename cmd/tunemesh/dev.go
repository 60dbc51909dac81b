package main

import (
	"cmp"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/cli"
)

func newDev() *cobra.Command {
	c := localConfig{}
	var logs logFlags
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole mesh of one node on this machine, until Ctrl-C",
		Long: `Runs a mesh of one node on loopback: control plane with Raft, object store,
event log, gossip, and a node agent. It keeps everything in one folder; started
again on the same folder it goes on with what was not finished.

The client verbs of this user (tunemesh job ...) are logged in to it.`,
		Example: `  tunemesh dev
  tunemesh dev --data-dir /tmp/try --http-addr 127.0.0.1:8800`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logs.logger()
			if err != nil {
				return err
			}
			c.log = log
			c.redisURL = cmp.Or(c.redisURL, os.Getenv("TUNEMESH_REDIS_URL"))
			if c.dir == "" {
				home, err := os.UserHomeDir()
				if err != nil {
					return fmt.Errorf("no place for the data: give --data-dir (%w)", err)
				}
				c.dir = filepath.Join(home, ".local", "share", "tunemesh", "dev")
			}
			stop, err := startTracing(cmd.Context(), "tunemesh")
			if err != nil {
				return err
			}
			defer stop()
			return runDev(cmd, c)
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.dir, "data-dir", "", "`FOLDER` for everything (default ~/.local/share/tunemesh/dev)")
	f.StringVar(&c.httpAddr, "http-addr", "127.0.0.1:7700", "`ADDRESS` of the API")
	f.StringVar(&c.raftAddr, "raft-addr", "127.0.0.1:7701", "`ADDRESS` of Raft")
	f.StringVar(&c.gossipAddr, "gossip-addr", "127.0.0.1:0", "`ADDRESS` of gossip")
	redisFlag(cmd, &c.redisURL)
	eventFlags(cmd, &c.events)
	f.StringVar(&c.metricsAddr, "metrics-addr", "", "`ADDRESS` at which the agent serves /metrics, GPUs included (default: nowhere)")
	logs.define(cmd, "warn")
	return cmd
}

func runDev(cmd *cobra.Command, c localConfig) error {
	l, err := startLocal(cmd.Context(), c)
	if err != nil {
		return err
	}
	out := cmd.OutOrStdout()
	fmt.Fprintf(out, "A mesh of one node is up.\n\n")
	fmt.Fprintf(out, "  API       %s/docs\n", l.server.URL())
	fmt.Fprintf(out, "  data      %s\n", c.dir)
	if token, err := l.server.AdminToken(); err == nil {
		path, err := cli.ContextPath(nil)
		if err == nil {
			err = cli.SaveContext(path, cli.Context{Server: l.server.URL(), Token: token})
		}
		if err == nil {
			fmt.Fprintf(out, "  login     done for this user (%s)\n", path)
		} else {
			slog.Warn("cannot log this user in", "err", err)
		}
		fmt.Fprintf(out, "            elsewhere: tunemesh login --server %s --token \"$(cat %s)\"\n", l.server.URL(), l.server.AdminTokenPath())
	}
	fmt.Fprintf(out, "\nNext, in another terminal:\n\n  tunemesh job submit --dataset examples/support-tickets.csv --watch\n\nCtrl-C ends the mesh; unfinished jobs go on at the next start.\n")
	<-cmd.Context().Done()
	fmt.Fprintln(out, "\nStopping: stages save a checkpoint and end.")
	return l.Close()
}
