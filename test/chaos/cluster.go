//go:build linux

package chaos

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"
)

// formCluster starts the servers and returns when all are ready: the one place
// that knows how servers find each other.
func (m *mesh) formCluster() error {
	for _, s := range m.servers {
		s.replace(m.serverArgs(s))
		if err := s.start(); err != nil {
			return err
		}
	}
	return m.awaitReady(90*time.Second, m.servers...)
}

func (m *mesh) serverArgs(s *member) []string {
	return []string{m.binary, "controlplane", "--data-dir", s.dir, "--bootstrap",
		"--http-addr", m.address(s.name, httpPort), "--raft-addr", m.address(s.name, raftPort), "--gossip-addr", m.address(s.name, gossipPort),
		"--s3-endpoint", m.address("store", s3Port)}
}

func (m *mesh) agentArgs(a *member) []string {
	return []string{m.binary, "nodeagent", "--server", strings.Join(m.urls(), ","), "--data-dir", a.dir, "--name", a.name,
		"--gossip-addr", m.address(a.name, gossipPort)}
}

// awaitReady waits until servers say that they can take work.
func (m *mesh) awaitReady(limit time.Duration, servers ...*member) error {
	for _, s := range servers {
		if err := m.eventually(limit, func() error { return m.ready(s) }); err != nil {
			return fmt.Errorf("%s is not ready after %s: %w", s.name, limit, err)
		}
	}
	return nil
}

func (m *mesh) ready(s *member) error {
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, s.url+"/readyz", nil)
	if err != nil {
		return err
	}
	resp, err := m.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("readyz: %s", resp.Status)
	}
	return nil
}
