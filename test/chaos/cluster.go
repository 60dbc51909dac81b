//go:build linux

package chaos

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
)

// formCluster starts the servers and returns when all are ready: with
// agentArgs the one place that knows how those of a mesh find each other.
func (m *mesh) formCluster() error {
	secret := filepath.Join(m.dir, "cluster.secret")
	out, err := exec.Command(m.binary, "token", "new-cluster").Output()
	if err == nil {
		err = os.WriteFile(secret, out, 0o600)
	}
	if err != nil {
		return fmt.Errorf("make a cluster secret: %w", err)
	}
	for _, s := range m.servers {
		s.replace(m.serverArgs(s))
		if err := s.start(); err != nil {
			return err
		}
	}
	if err := m.eventually(60*time.Second, m.trust); err != nil {
		return err
	}
	return m.awaitReady(90*time.Second, m.servers...)
}

// trust makes the test's own client trust the cluster's CA alone.
func (m *mesh) trust() error {
	data, err := os.ReadFile(filepath.Join(m.servers[0].dir, "admin.token"))
	if err != nil {
		return fmt.Errorf("the founders' tokens: %w", err)
	}
	t, err := api.ParseToken(strings.TrimSpace(string(data)))
	if err != nil {
		return err
	}
	if len(t.CA) > 0 {
		m.http.Transport.(*http.Transport).TLSClientConfig = client.PinnedTLS(t.CA)
	}
	return nil
}

func (m *mesh) serverArgs(s *member) []string {
	args := []string{m.binary, "controlplane", "--data-dir", s.dir, "--name", s.name,
		"--http-addr", m.address(s.name, httpPort), "--gossip-addr", m.address(s.name, gossipPort), "--s3-endpoint", m.address("store", s3Port)}
	if len(m.servers) == 1 {
		return append(args, "--bootstrap")
	}
	var all []string
	for _, other := range m.servers {
		all = append(all, m.address(other.name, httpPort))
	}
	return append(args, "--bootstrap-expect", strconv.Itoa(len(m.servers)), "--join", strings.Join(all, ","),
		"--cluster-secret-file", filepath.Join(m.dir, "cluster.secret"))
}

func (m *mesh) agentArgs(a *member) []string {
	args := []string{m.binary, "nodeagent", "--server", strings.Join(m.urls(), ","), "--data-dir", a.dir, "--name", a.name,
		"--gossip-addr", m.address(a.name, gossipPort)}
	if a.small {
		args = append(args, "--skip-preflight") // it would say that the disk is too small
	}
	return args
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
