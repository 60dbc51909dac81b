package rest

import (
	"cmp"
	"context"
	"net"
	"net/url"
	"slices"
)

// targetGroup is one entry of Prometheus's HTTP service discovery
// (prometheus.io/docs/prometheus/latest/http_sd).
type targetGroup struct {
	Targets []string          `json:"targets" example:"10.0.0.7:7704"`
	Labels  map[string]string `json:"labels"`
}

type targetsOut struct {
	Body []targetGroup
}

// discoverTargets lists the servers' and the agents' metrics. An agent that
// serves none, or on its own loopback alone, cannot be scraped from elsewhere;
// the latter is listed only where the mesh is one machine.
func (s *Server) discoverTargets(ctx context.Context, in *readIn) (*targetsOut, error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	groups := []targetGroup{}
	oneMachine := true
	for _, server := range s.Store.Servers() {
		u, err := url.Parse(server.HTTPAddress)
		if err != nil || u.Host == "" {
			continue
		}
		oneMachine = oneMachine && isLoopback(u.Hostname())
		groups = append(groups, targetGroup{Targets: []string{u.Host}, Labels: map[string]string{
			"role": "controlplane", "server_id": server.ID, "__scheme__": u.Scheme,
		}})
	}
	for _, n := range s.Store.Nodes() {
		host, ok := hostOf(n.Capability.MetricsAddr)
		if !ok || isLoopback(host) && !oneMachine {
			continue
		}
		groups = append(groups, targetGroup{Targets: []string{n.Capability.MetricsAddr}, Labels: map[string]string{
			"role": "nodeagent", "node_id": n.ID, "node": n.Name, "__scheme__": "http",
		}})
	}
	slices.SortFunc(groups, func(a, b targetGroup) int {
		return cmp.Or(cmp.Compare(a.Labels["role"], b.Labels["role"]), cmp.Compare(a.Targets[0], b.Targets[0]))
	})
	return &targetsOut{groups}, nil
}

// hostOf is the host of HOST:PORT.
func hostOf(addr string) (string, bool) {
	host, port, err := net.SplitHostPort(addr)
	return host, err == nil && host != "" && port != "" && port != "0"
}

func isLoopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}
