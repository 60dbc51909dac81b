package controlplane

import (
	"cmp"
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
	// any. With TLS, Raft shares the port of HTTPAddr and RaftAddr is not used.
	// Addresses may change over restarts where other servers can be reached to be
	// told.
	HTTPAddr, RaftAddr, GossipAddr string
	// Advertise is the host, or host:port, under which others reach HTTPAddr, and
	// with their own ports Raft and gossip; by default the host of HTTPAddr.
	Advertise string
	// URL is the base URL under which clients reach the API; by default that of
	// Advertise.
	URL string
	// Name is what people call this server; by default the host's name. A server
	// that lost its disk comes back under the same one.
	Name string
	// PlainHTTP does without TLS, on separate ports for HTTP and Raft.
	PlainHTTP bool

	// Bootstrap founds a new mesh of this server alone if Dir is new.
	Bootstrap bool
	// Expect founds a new cluster of that many servers, each started with the same
	// number, if Dir is new and none of those in Join has a cluster already.
	Expect int
	// Join are other servers' API, HOST:PORT or URLs. With JoinToken, of role
	// server, this one joins their cluster.
	Join      []string
	JoinToken string
	// ClusterSecret is what the founders of a cluster know each other by; see
	// trust.Secret. A founder alone makes its own.
	ClusterSecret string
	// OnLeft is called when this server was asked to leave and has: it should be
	// closed then.
	OnLeft func()
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

	// SweepInterval is how often the leader looks for what killed uploads have
	// left in the object store (1 h), SweepAge how old that must be (24 h).
	SweepInterval, SweepAge time.Duration

	// Models are base models to put into a new mesh, by name; DefaultModel is
	// what a job without a model gets.
	Models       map[string]BundledModel
	DefaultModel string

	// PublicMetrics serves /metrics without a token also where HTTPAddr is not
	// loopback.
	PublicMetrics bool

	Version api.Version
	Log     *slog.Logger
	// Fatal ends the process when the server must stop at once.
	Fatal func(error)
}

// BundledModel is a base model that comes with the program.
type BundledModel struct {
	Files      fs.FS // as Hugging Face lays them out
	Parameters int64
	License    string // as the hub calls it: "apache-2.0"
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Name == "" {
		if c.Name, _ = os.Hostname(); c.Name == "" {
			c.Name = "server"
		}
	}
	c.SweepInterval, c.SweepAge = cmp.Or(c.SweepInterval, time.Hour), cmp.Or(c.SweepAge, 24*time.Hour)
	if c.Expect == 1 {
		c.Bootstrap, c.Expect = true, 0
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
		if flag == "--raft-addr" && !c.PlainHTTP {
			continue
		}
		if _, _, err := net.SplitHostPort(addr); err != nil {
			return fmt.Errorf("controlplane: %s %q: want HOST:PORT: %w", flag, addr, err)
		}
	}
	switch {
	case c.Expect < 0:
		return fmt.Errorf("controlplane: --bootstrap-expect %d: want the number of servers, 3 or 5 best", c.Expect)
	case c.Expect > 1 && c.Bootstrap:
		return errors.New("controlplane: --bootstrap founds a cluster of this server alone, --bootstrap-expect one of several: choose one")
	case c.Expect > 1 && len(c.Join) == 0:
		return errors.New("controlplane: --bootstrap-expect needs --join HOST:PORT, the API of at least one of the other servers")
	}
	if c.S3.Endpoint == "" && len(c.S3Child) == 0 {
		return errors.New("controlplane: no object store: give --s3-endpoint")
	}
	return nil
}
