package controlplane

import (
	"context"
	"fmt"
	"net"
	"strconv"
	"sync"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/mesh"
)

// openGossip makes this server a member that agents and other servers can join.
// address is where others reach the API.
func (s *Server) openGossip(address string) error {
	host, port, err := net.SplitHostPort(s.config.GossipAddr)
	if err != nil {
		return fmt.Errorf("controlplane: gossip address: %w", err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("controlplane: gossip address %q: port is no number", s.config.GossipAddr)
	}
	advertise, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("controlplane: %w", err)
	}
	config := mesh.Config{
		Name: s.id, BindAddr: host, BindPort: number, Key: s.creds.gossip,
		Meta: mesh.Meta{Role: mesh.RoleServer}, Peers: s.gossipMembers,
		Logger: s.config.Log.With("room", "mesh"),
	}
	if ip := net.ParseIP(advertise); ip != nil && ip.String() != host {
		config.AdvertiseAddr = ip.String()
	}
	if s.gossip, err = mesh.Open(config); err != nil {
		return err
	}
	s.gossipAddress = s.gossip.Addr()
	life, cancel := context.WithCancel(context.Background())
	var following sync.WaitGroup
	following.Go(func() { s.followGossipKeys(life) })
	s.onClose(func() error { cancel(); following.Wait(); return s.gossip.Close() })
	return nil
}

// gossipMembers are the gossip addresses of the servers.
func (s *Server) gossipMembers() []string {
	if !s.opened.Load() {
		return nil
	}
	var out []string
	for _, server := range s.raft.Store().Servers() {
		if server.GossipAddress != "" && server.ID != s.id {
			out = append(out, server.GossipAddress)
		}
	}
	return out
}

// Gossip implements rest.Cluster.
func (c *cluster) Gossip() api.Gossip {
	out := api.Gossip{Server: c.s.id, Name: c.s.config.Name, Members: []api.GossipMember{}}
	for _, m := range c.s.gossip.Members() {
		seen := api.GossipMember{ID: m.Name, Role: roleOf(m), Address: m.Addr}
		if server, err := c.s.raft.Store().Server(m.Name); err == nil {
			seen.Name = server.Name
		} else if node, err := c.s.raft.Store().Node(m.Name); err == nil {
			seen.Name = node.Name
		}
		out.Members = append(out.Members, seen)
	}
	return out
}

// gossipSeen counts who is in sight, by role.
func (s *Server) gossipSeen() map[string]int {
	out := map[string]int{"server": 0, "agent": 0}
	for _, m := range s.gossip.Members() {
		out[roleOf(m)]++
	}
	return out
}

func roleOf(m mesh.Member) string {
	if m.Meta.Role&mesh.RoleServer != 0 {
		return "server"
	}
	return "agent"
}

// gossipPeers is what a registering agent is told.
func (s *Server) gossipPeers() ([]string, [][]byte) {
	return append([]string{s.gossip.Addr()}, s.gossipMembers()...), s.gossipKeys()
}
