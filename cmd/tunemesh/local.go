package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/controlplane"
	"github.com/tunemesh/tunemesh/mesh"
	"github.com/tunemesh/tunemesh/models"
	"github.com/tunemesh/tunemesh/nodeagent"
)

// local is a mesh of one node in this process: a control-plane server and a
// node agent that meet over HTTP, as they would on two machines.
type local struct {
	server *controlplane.Server
	cancel context.CancelFunc
	agent  chan error
	gossip *gossip
	export *exported
	cp     *client.Client
}

// localConfig says where a local mesh keeps its data and listens.
type localConfig struct {
	dir                            string
	httpAddr, raftAddr, gossipAddr string
	redisURL                       string
	events                         controlplane.EventsConfig
	metricsAddr                    string // of the agent; empty: none
	log                            *slog.Logger
}

func serverConfig(c localConfig) (controlplane.Config, error) {
	self, err := os.Executable()
	if err != nil {
		return controlplane.Config{}, fmt.Errorf("find own program: %w", err)
	}
	return controlplane.Config{
		Dir:          c.dir,
		HTTPAddr:     c.httpAddr,
		RaftAddr:     c.raftAddr,
		GossipAddr:   c.gossipAddr,
		RedisURL:     c.redisURL,
		Events:       c.events,
		S3Child:      []string{self, childS3},
		Models:       map[string]controlplane.BundledModel{models.MiniName: {Files: models.Mini(), Parameters: models.MiniParameters, License: models.MiniLicense}},
		DefaultModel: models.MiniName,
		Version:      build(),
		Log:          c.log,
	}, nil
}

// startLocal returns once the mesh is ready for jobs.
func startLocal(ctx context.Context, c localConfig) (*local, error) {
	log := c.log
	agentDir := filepath.Join(c.dir, "agent")
	c.dir = filepath.Join(c.dir, "controlplane")
	config, err := serverConfig(c)
	if err != nil {
		return nil, err
	}
	// On loopback, in one process: TLS would protect nothing.
	config.PlainHTTP = true
	config.Bootstrap, config.ElectionTimeout = true, 200*time.Millisecond
	server, err := controlplane.Open(ctx, config)
	if err != nil {
		return nil, err
	}
	l := &local{server: server, agent: make(chan error, 1), gossip: &gossip{bind: "127.0.0.1:0", log: log.With("room", "mesh")}}
	token, err := server.NodeToken()
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	j := joining{dir: agentDir, servers: []string{server.URL()}, token: token, log: log}
	cp, err := j.join(ctx)
	if err != nil {
		return nil, errors.Join(err, server.Close())
	}
	l.cp = cp
	joined := make(chan struct{})
	registered := sync.OnceFunc(func() { close(joined) })
	settings := nodeagent.Config{
		Dir:              agentDir,
		Version:          version,
		StopStagesOnExit: true,
		OnRegistered: func(r api.RegistrationReply) {
			l.gossip.join(r)
			registered()
		},
		GossipKeys: l.gossip.digest,
		Logger:     log.With("room", "nodeagent"),
	}
	if l.export, err = exportMetrics(c.metricsAddr, &settings); err != nil {
		return nil, errors.Join(err, server.Close())
	}
	agent, err := nodeagent.New(settings, cp)
	if err == nil {
		err = l.export.serve(agent, l.gossip)
	}
	if err != nil {
		return nil, errors.Join(err, l.export.Close(), server.Close())
	}
	life, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	go func() { l.agent <- agent.Run(life) }()
	select {
	case <-joined:
		return l, nil
	case err := <-l.agent:
		l.agent <- err
		return nil, errors.Join(fmt.Errorf("the node agent ended at its start: %w", err), l.Close())
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), l.Close())
	}
}

// Close ends the agent first, so that its last reports are heard.
func (l *local) Close() error {
	l.cancel()
	err := <-l.agent
	if errors.Is(err, context.Canceled) {
		err = nil
	}
	return errors.Join(err, l.export.Close(), l.gossip.Close(), l.server.Close())
}

// gossip joins the mesh's membership when the control plane has told where its
// members are. Failing to is no reason not to work: gossip is a hint.
type gossip struct {
	bind string // host:port
	log  *slog.Logger

	mu     sync.Mutex
	member *mesh.Mesh
	keys   [][]byte // that member has
	closed bool
}

func (g *gossip) join(r api.RegistrationReply) {
	g.mu.Lock()
	defer g.mu.Unlock()
	keys := r.GossipKeys
	if len(keys) == 0 && len(r.GossipKey) > 0 { // a server of before protocol version 4
		keys = [][]byte{r.GossipKey}
	}
	if g.closed || len(r.GossipPeers) == 0 {
		return
	}
	if g.member == nil {
		m, err := g.open(r)
		if err != nil {
			g.log.Warn("no gossip: the node works, its absence is noticed later", "err", err)
			return
		}
		g.member = m
	}
	if len(keys) > 0 {
		if err := g.member.SetKeys(keys); err != nil {
			g.log.Warn("the gossip's keys cannot be changed", "err", err)
			return
		}
	}
	g.keys = keys
}

// digest tells which keys the gossip has; empty: there is no gossip.
func (g *gossip) digest() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.member == nil || len(g.keys) == 0 {
		return ""
	}
	return api.GossipKeysDigest(g.keys)
}

func (g *gossip) open(r api.RegistrationReply) (*mesh.Mesh, error) {
	host, port, err := net.SplitHostPort(g.bind)
	if err != nil {
		return nil, fmt.Errorf("gossip address: %w", err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return nil, fmt.Errorf("gossip address %q: port is no number", g.bind)
	}
	document, err := json.Marshal(r.Node.Capability)
	if err != nil {
		return nil, fmt.Errorf("encode capability: %w", err)
	}
	return mesh.Open(mesh.Config{
		Name: r.Node.ID, BindAddr: host, BindPort: number, Key: r.GossipKey, Join: r.GossipPeers,
		Meta: mesh.Meta{Role: mesh.RoleAgent}, Document: document, Logger: g.log,
	})
}

// seen counts whom this agent sees, by role; nil before it has joined.
func (g *gossip) seen() map[string]int {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.member == nil {
		return nil
	}
	out := map[string]int{"server": 0, "agent": 0}
	for _, m := range g.member.Members() {
		if m.Meta.Role&mesh.RoleServer != 0 {
			out["server"]++
		} else {
			out["agent"]++
		}
	}
	return out
}

// Close leaves the membership.
func (g *gossip) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	if g.member == nil {
		return nil
	}
	return g.member.Close()
}

// readToken reads a token from a file.
func readToken(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("read token: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// redisFlag defines --redis-url. Its default is not the environment's value: the
// help would print the password.
func redisFlag(cmd *cobra.Command, url *string) {
	cmd.Flags().StringVar(url, "redis-url", "", "`URL` of a Redis for the event log: redis://, redis+sentinel://, redis+cluster:// or rediss... for TLS (default $TUNEMESH_REDIS_URL; with neither the log is on this server's disk)")
}
