package controlplane

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
)

// Config says what a server is and where it listens.
type Config struct {
	// Dir holds everything the server keeps: raft/, events/, s3/, tokens.
	Dir string
	// HTTPAddr, RaftAddr and GossipAddr are host:port to listen on; port 0 takes
	// any. RaftAddr must stay the same over restarts.
	HTTPAddr, RaftAddr, GossipAddr string
	// URL is the base URL under which others reach the API; by default that of
	// HTTPAddr.
	URL string
	// Bootstrap founds a new mesh if Dir is new.
	Bootstrap bool
	// ElectionTimeout is the silence after which this server wants to lead; 0
	// means the default. A mesh that has one server for good may keep it short:
	// nobody else can be silent.
	ElectionTimeout time.Duration

	// RedisURL puts the event log into Redis, for servers that share one; empty
	// keeps it in Dir. It may hold a password. See events/redis for its forms.
	RedisURL string
	// Events says how long events stay there.
	Events EventsConfig

	// S3 is the object store. With an empty endpoint the embedded one is started
	// by S3Child, a command that runs artifacts.RunChild.
	S3      artifacts.Config
	S3Child []string

	// Models are base models to put into a new mesh, by name; DefaultModel is
	// what a job without a model gets.
	Models       map[string]fs.FS
	DefaultModel string

	Version api.Version
	Log     *slog.Logger
	// Fatal ends the process when the server must stop at once.
	Fatal func(error)
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Fatal == nil {
		c.Fatal = func(err error) {
			fmt.Fprintln(os.Stderr, "tunemesh: this server must stop:", err)
			os.Exit(70)
		}
	}
	return c
}

func (c Config) validate() error {
	if c.Dir == "" {
		return errors.New("controlplane: no data directory given (--data-dir)")
	}
	for flag, addr := range map[string]string{"--http-addr": c.HTTPAddr, "--raft-addr": c.RaftAddr, "--gossip-addr": c.GossipAddr} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("controlplane: %s %q: want HOST:PORT: %w", flag, addr, err)
		}
	}
	if c.S3.Endpoint == "" && len(c.S3Child) == 0 {
		return errors.New("controlplane: no object store: give --s3-endpoint")
	}
	return nil
}
