package main

import (
	"fmt"
	"net"

	"github.com/tunemesh/tunemesh/nodeagent"
	"github.com/tunemesh/tunemesh/nodeagent/exporter"
)

// exported is an agent's /metrics; nil where it is not served.
type exported struct {
	listener net.Listener
	exporter *exporter.Exporter
}

// exportMetrics takes the address before the agent, which tells it to the
// control plane, is made. An empty address exports nothing.
func exportMetrics(addr string, c *nodeagent.Config) (*exported, error) {
	if addr == "" {
		return nil, nil
	}
	if host, _, err := net.SplitHostPort(addr); err != nil {
		return nil, exitError{2, fmt.Errorf("--metrics-addr %q: want HOST:PORT: %w", addr, err)}
	} else if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		return nil, exitError{2, fmt.Errorf("--metrics-addr %q: name the address at which Prometheus reaches this machine, it is told to it", addr)}
	}
	l, err := exporter.Listen(addr)
	if err != nil {
		return nil, err
	}
	c.MetricsAddr = l.Addr().String()
	return &exported{listener: l}, nil
}

// serve answers from the agent's figures, and says whom g sees.
func (e *exported) serve(a *nodeagent.Agent, g *gossip) (err error) {
	if e == nil {
		return nil
	}
	e.exporter, err = exporter.Serve(e.listener, exporter.Version{Version: version, Commit: commit}, func() nodeagent.Figures {
		f := a.Figures()
		f.GossipMembers = g.seen()
		return f
	})
	return err
}

// Close ends the serving.
func (e *exported) Close() error {
	switch {
	case e == nil:
		return nil
	case e.exporter == nil:
		return e.listener.Close()
	}
	return e.exporter.Close()
}
