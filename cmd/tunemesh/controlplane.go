package main

import (
	"cmp"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/controlplane"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
)

func newControlPlane() *cobra.Command {
	c := localConfig{}
	var bootstrap bool
	var url string
	var logs logFlags
	var s3 artifacts.Config
	cmd := &cobra.Command{
		Use:   "controlplane",
		Short: "Run a server of the control plane",
		Long: `Runs one server of the control plane until SIGTERM. At its first start with
--bootstrap it founds a mesh and writes two tokens into its data folder:
admin.token for people, node.token for node agents.

The object store is embedded unless --s3-endpoint names another; its keys come
from TUNEMESH_S3_ACCESS_KEY and TUNEMESH_S3_SECRET_KEY. The embedded store
listens on loopback alone: agents on other machines need one that they reach.`,
		Example: `  tunemesh controlplane --bootstrap --data-dir /var/lib/tunemesh/controlplane
  TUNEMESH_S3_ACCESS_KEY=... TUNEMESH_S3_SECRET_KEY=... tunemesh controlplane --bootstrap \
    --http-addr 10.0.0.5:7700 --raft-addr 10.0.0.5:7701 --gossip-addr 10.0.0.5:7702 \
    --s3-endpoint minio.lab:9000`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logs.logger()
			if err != nil {
				return err
			}
			c.log = log
			c.redisURL = cmp.Or(c.redisURL, os.Getenv("TUNEMESH_REDIS_URL"))
			config, err := serverConfig(c)
			if err != nil {
				return err
			}
			config.Bootstrap, config.URL = bootstrap, url
			if s3.Endpoint != "" {
				s3.AccessKey, s3.SecretKey = os.Getenv("TUNEMESH_S3_ACCESS_KEY"), os.Getenv("TUNEMESH_S3_SECRET_KEY")
				if s3.AccessKey == "" || s3.SecretKey == "" {
					return exitError{2, errors.New("--s3-endpoint needs TUNEMESH_S3_ACCESS_KEY and TUNEMESH_S3_SECRET_KEY in the environment")}
				}
				config.S3 = s3
			}
			server, err := controlplane.Open(cmd.Context(), config)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "control plane at %s; tokens: %s, %s\n", server.URL(), server.AdminTokenPath(), server.NodeTokenPath())
			<-cmd.Context().Done()
			return server.Close()
		},
	}
	f := cmd.Flags()
	f.StringVar(&c.dir, "data-dir", "/var/lib/tunemesh/controlplane", "`FOLDER` for everything the server keeps")
	f.StringVar(&c.httpAddr, "http-addr", "127.0.0.1:7700", "`ADDRESS` of the API")
	f.StringVar(&url, "url", "", "base `URL` under which others reach the API (default: that of --http-addr)")
	f.StringVar(&c.raftAddr, "raft-addr", "127.0.0.1:7701", "`ADDRESS` of Raft")
	f.StringVar(&c.gossipAddr, "gossip-addr", "127.0.0.1:7702", "`ADDRESS` of gossip")
	f.BoolVar(&bootstrap, "bootstrap", false, "found a new mesh if the data folder is new")
	f.StringVar(&s3.Endpoint, "s3-endpoint", "", "`HOST:PORT` of an S3 server; the embedded one if empty")
	f.StringVar(&s3.Public, "s3-public-endpoint", "", "`HOST:PORT` of the same S3 server as agents and clients reach it")
	f.BoolVar(&s3.Secure, "s3-tls", false, "speak https to the S3 server")
	redisFlag(cmd, &c.redisURL)
	eventFlags(cmd, &c.events)
	logs.define(cmd, "info")
	return cmd
}
