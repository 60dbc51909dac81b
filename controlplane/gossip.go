package controlplane

import (
	"encoding/hex"
	"fmt"
	"net"
	"path/filepath"
	"strconv"

	"github.com/tunemesh/tunemesh/mesh"
)

// openGossip makes this server a member that agents can join.
func (s *Server) openGossip() error {
	key, err := s.gossipKey()
	if err != nil {
		return err
	}
	host, port, err := net.SplitHostPort(s.config.GossipAddr)
	if err != nil {
		return fmt.Errorf("controlplane: gossip address: %w", err)
	}
	number, err := strconv.Atoi(port)
	if err != nil {
		return fmt.Errorf("controlplane: gossip address %q: port is no number", s.config.GossipAddr)
	}
	s.gossip, err = mesh.Open(mesh.Config{
		Name: s.raft.ID(), BindAddr: host, BindPort: number, Key: key,
		Meta:   mesh.Meta{Role: mesh.RoleServer},
		Logger: s.config.Log.With("room", "mesh"),
	})
	if err != nil {
		return err
	}
	s.onClose(s.gossip.Close)
	return nil
}

// gossipKey encrypts the gossip; agents get it with their registration.
func (s *Server) gossipKey() ([]byte, error) {
	text, err := onceWritten(filepath.Join(s.config.Dir, "gossip.key"), func() string { return hex.EncodeToString(randomBytes(32)) })
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(text)
	if err != nil || len(key) != 32 {
		return nil, fmt.Errorf("controlplane: gossip.key is damaged: want 64 hex digits")
	}
	return key, nil
}

// gossipPeers is what a registering agent is told.
func (s *Server) gossipPeers() ([]string, []byte) {
	key, err := s.gossipKey()
	if err != nil {
		return nil, nil
	}
	return []string{s.gossip.Addr()}, key
}
