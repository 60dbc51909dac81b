package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/controlplane"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
)

// serverFlags are those of a server that is one of several.
type serverFlags struct {
	bootstrap, plain, leave bool
	metrics                 bool
	expect                  int
	name, advertise, url    string
	join                    []string
	secretFile, tokenFile   string
	token                   string
	s3                      artifacts.Config
	logs                    logFlags
}

func newControlPlane() *cobra.Command {
	c := localConfig{}
	f := serverFlags{}
	cmd := &cobra.Command{
		Use:   "controlplane",
		Short: "Run a server of the control plane",
		Long: `Runs one server of the control plane until SIGTERM. At its first start it finds
its cluster in one of three ways; afterwards its data folder says what it
belongs to, and these flags are not looked at.

  --bootstrap           a new cluster of this server alone
  --bootstrap-expect N  a new cluster of N servers: each is started with the same
                        N, the same --cluster-secret-file, and --join with the
                        address of one or more of the others
  --join, --token-file  the cluster that the address belongs to, by a token from
                        "tunemesh token create --role server"

A server that lost its disk is started again with the flags of its first start
and takes its old place, known by its --name.

Founders write two tokens into their data folder: admin.token for people,
node.token for node agents. The API, Raft and all else share the port of
--http-addr, with TLS by the cluster's own CA; gossip has its own.

The object store is embedded unless --s3-endpoint names another; its keys come
from TUNEMESH_S3_ACCESS_KEY and TUNEMESH_S3_SECRET_KEY. The embedded store
listens on loopback alone: agents on other machines, and several servers, need
one that they all reach.`,
		Example: `  tunemesh controlplane --bootstrap --data-dir /var/lib/tunemesh/controlplane
  tunemesh token new-cluster > cluster.secret    # once; then on each of three hosts:
  TUNEMESH_S3_ACCESS_KEY=... TUNEMESH_S3_SECRET_KEY=... tunemesh controlplane \
    --bootstrap-expect 3 --cluster-secret-file cluster.secret \
    --join 10.0.0.5:7700,10.0.0.6:7700,10.0.0.7:7700 \
    --http-addr 10.0.0.5:7700 --gossip-addr 10.0.0.5:7702 --s3-endpoint minio.lab:9000
  tunemesh controlplane --join 10.0.0.5:7700 --token-file server.token --http-addr 10.0.0.8:7700`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return runControlPlane(cmd, c, &f) },
	}
	flags := cmd.Flags()
	flags.StringVar(&c.dir, "data-dir", "/var/lib/tunemesh/controlplane", "`FOLDER` for everything the server keeps")
	flags.StringVar(&f.name, "name", "", "what people call this server (default: the host's name)")
	flags.StringVar(&c.httpAddr, "http-addr", "127.0.0.1:7700", "`ADDRESS` to listen on for the API and Raft")
	flags.StringVar(&f.advertise, "advertise", "", "`HOST[:PORT]` under which others reach this server (default: --http-addr)")
	flags.StringVar(&f.url, "url", "", "base `URL` under which clients reach the API (default: that of --advertise)")
	flags.StringVar(&c.gossipAddr, "gossip-addr", "127.0.0.1:7702", "`ADDRESS` of gossip")
	flags.BoolVar(&f.bootstrap, "bootstrap", false, "found a cluster of this server alone if the data folder is new")
	flags.IntVar(&f.expect, "bootstrap-expect", 0, "found a cluster of `N` servers if the data folder is new")
	flags.StringSliceVar(&f.join, "join", nil, "`HOST:PORT` of another server's API; several with commas, or repeated")
	flags.StringVar(&f.secretFile, "cluster-secret-file", "", "`FILE` with the cluster secret (tunemesh token new-cluster), or TUNEMESH_CLUSTER_SECRET")
	flags.StringVar(&f.token, "token", "", "`TOKEN` of role server to join by")
	flags.StringVar(&f.tokenFile, "token-file", "", "`FILE` with a token of role server to join by, or TUNEMESH_TOKEN")
	flags.BoolVar(&f.leave, "leave-on-terminate", false, "leave the cluster on SIGTERM: for servers that do not come back")
	flags.BoolVar(&f.plain, "plain-http", false, "no TLS, and Raft on a port of its own: for networks that nobody else is in")
	flags.StringVar(&c.raftAddr, "raft-addr", "127.0.0.1:7701", "`ADDRESS` of Raft, with --plain-http")
	flags.StringVar(&f.s3.Endpoint, "s3-endpoint", "", "`HOST:PORT` of an S3 server; the embedded one if empty")
	flags.StringVar(&f.s3.Public, "s3-public-endpoint", "", "`HOST:PORT` of the same S3 server as agents and clients reach it")
	flags.BoolVar(&f.s3.Secure, "s3-tls", false, "speak https to the S3 server")
	flags.BoolVar(&f.metrics, "public-metrics", false, "serve /metrics without a token also where --http-addr is not loopback; else a token of role metrics is needed")
	redisFlag(cmd, &c.redisURL)
	eventFlags(cmd, &c.events)
	f.logs.define(cmd, "info")
	return cmd
}

func runControlPlane(cmd *cobra.Command, c localConfig, f *serverFlags) error {
	log, err := f.logs.logger()
	if err != nil {
		return err
	}
	stop, err := startTracing(cmd.Context(), "tunemesh-controlplane")
	if err != nil {
		return err
	}
	defer stop()
	c.log = log
	c.redisURL = cmp.Or(c.redisURL, os.Getenv("TUNEMESH_REDIS_URL"))
	config, err := serverConfig(c)
	if err != nil {
		return err
	}
	life, end := context.WithCancel(cmd.Context())
	defer end()
	config.Bootstrap, config.Expect, config.Join, config.PlainHTTP = f.bootstrap, f.expect, f.join, f.plain
	config.Name, config.Advertise, config.URL = f.name, f.advertise, f.url
	config.OnLeft, config.PublicMetrics = end, f.metrics
	if config.ClusterSecret, err = secretOf(f.secretFile, "TUNEMESH_CLUSTER_SECRET"); err != nil {
		return err
	}
	if len(f.join) > 0 && f.expect == 0 {
		if config.JoinToken = f.token; config.JoinToken == "" {
			if config.JoinToken, err = secretOf(f.tokenFile, "TUNEMESH_TOKEN"); err != nil {
				return err
			}
		}
	}
	if f.s3.Endpoint != "" {
		f.s3.AccessKey, f.s3.SecretKey = os.Getenv("TUNEMESH_S3_ACCESS_KEY"), os.Getenv("TUNEMESH_S3_SECRET_KEY")
		if f.s3.AccessKey == "" || f.s3.SecretKey == "" {
			return exitError{2, errors.New("--s3-endpoint needs TUNEMESH_S3_ACCESS_KEY and TUNEMESH_S3_SECRET_KEY in the environment")}
		}
		config.S3 = f.s3
	}
	server, err := controlplane.Open(life, config)
	if err != nil {
		if errors.Is(err, context.Canceled) && cmd.Context().Err() != nil {
			return nil // stopped while it waited
		}
		return err
	}
	fmt.Fprintf(cmd.OutOrStdout(), "control plane at %s", server.URL())
	if _, err := os.Stat(server.AdminTokenPath()); err == nil {
		fmt.Fprintf(cmd.OutOrStdout(), "; tokens: %s, %s", server.AdminTokenPath(), server.NodeTokenPath())
	}
	fmt.Fprintln(cmd.OutOrStdout())
	<-life.Done()
	if f.leave && cmd.Context().Err() != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		if err := server.Leave(ctx); err != nil {
			log.Warn("this server stops without having left the cluster", "err", err)
		}
	}
	return server.Close()
}

// secretOf reads a secret from a file, or from the environment without one.
func secretOf(path, variable string) (string, error) {
	if path == "" {
		return os.Getenv(variable), nil
	}
	return readToken(path)
}
