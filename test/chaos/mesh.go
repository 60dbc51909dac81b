//go:build linux

package chaos

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/failpoint"
)

// Ports, the same on every host.
const (
	httpPort, raftPort, gossipPort = "7700", "7701", "7702"
	s3Port, redisPort              = "9000", "6379"
)

// Keys of the object store; the namespaces are its only network.
const accessKey, secretKey = "TMCHAOSCHAOSCHAOS0", "chaos-chaos-chaos-chaos-chaos-chaos"

// shape is how large a mesh is.
type shape struct {
	servers, agents int
	// smallDisks puts the last server and the last agent on disks that a fault
	// can fill.
	smallDisks bool
	// binary is the program; empty means the one under test.
	binary string
	// injected: the binary is the test build, which takes orders to do wrong.
	injected bool
	// snapshots is after how many entries a server takes one; 0 means the
	// product's default. It and orders need injected.
	snapshots int
	// orders are given before the first process starts.
	orders map[failpoint.Point]string
	// env is added to the servers' and agents' environment.
	env []string
}

// mesh is a whole Tunemesh: servers, agents, object store and Redis, each on a
// host of its own, and a host from which the test speaks to them.
type mesh struct {
	shape   shape
	dir     string
	binary  string
	fabric  *fabric
	hosts   map[string]*namespace
	numbers map[*namespace]int
	servers []*member
	agents  []*member
	store   *process
	redis   *process
	mounts  []string
	http    *http.Client
	say     func(format string, args ...any)
}

// member is a server or an agent.
type member struct {
	*process
	dir   string
	url   string // of servers
	small bool   // its disk can be filled
}

// newMesh starts everything and returns when all are ready. What was started is
// ended by close, also after an error.
func newMesh(dir, binary string, s shape, say func(string, ...any)) (m *mesh, err error) {
	m = &mesh{shape: s, dir: dir, binary: binary, fabric: newFabric(), hosts: map[string]*namespace{}, numbers: map[*namespace]int{}, say: say}
	defer func() {
		if err != nil {
			m.close()
			m = nil
		}
	}()
	if s.injected {
		m.shape.env = append(slices.Clone(s.env), "TUNEMESH_FAILPOINTS="+m.orders())
	}
	if raceBuild() {
		// Told by a file, not by how a process ends: that would cost attempts.
		m.shape.env = append(slices.Clone(m.shape.env), "GORACE=exitcode=0 log_path="+m.races())
	}
	for p, what := range s.orders {
		if err := m.order(p, what); err != nil {
			return m, err
		}
	}
	names := []string{"client", "store", "redis"}
	for i := range s.servers {
		names = append(names, fmt.Sprintf("s%d", i+1))
	}
	for i := range s.agents {
		names = append(names, fmt.Sprintf("a%d", i+1))
	}
	var all []*namespace
	for i, name := range names {
		n, err := newNamespace(strings.TrimPrefix(filepath.Base(dir), "tmchaos-"), name, fmt.Sprintf("10.77.0.%d", 10+i))
		if n != nil {
			m.hosts[name], m.numbers[n] = n, 10+i
			all = append(all, n)
		}
		if err == nil {
			err = m.fabric.plug(name, n, 10+i)
		}
		if err != nil {
			return m, err
		}
	}
	if err := introduce(all, func(n *namespace) int { return m.numbers[n] }); err != nil {
		return m, err
	}
	m.http = &http.Client{Transport: &http.Transport{DialContext: m.dial, MaxIdleConnsPerHost: 64, IdleConnTimeout: 20 * time.Second}}
	if err := m.startStores(); err != nil {
		return m, err
	}
	if err := m.startServers(); err != nil {
		return m, err
	}
	return m, m.startAgents()
}

// dial connects from the test's own host.
func (m *mesh) dial(ctx context.Context, network, address string) (conn net.Conn, err error) {
	err = m.hosts["client"].do(func() error {
		conn, err = (&net.Dialer{Timeout: 2 * time.Second}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

func (m *mesh) process(name, host string, argv ...string) *process {
	return &process{name: name, host: m.hosts[host], log: filepath.Join(m.dir, name+".log"), argv: argv}
}

func (m *mesh) address(host, port string) string { return net.JoinHostPort(m.hosts[host].ip, port) }

func (m *mesh) startStores() error {
	for _, d := range []string{"redis", "objects/data", "objects/meta"} {
		if err := os.MkdirAll(filepath.Join(m.dir, d), 0o755); err != nil {
			return err
		}
	}
	m.redis = m.process("redis", "redis", "redis-server", "--bind", m.hosts["redis"].ip, "--port", redisPort, "--dir", filepath.Join(m.dir, "redis"),
		"--appendonly", "yes", "--save", "", "--protected-mode", "no")
	if err := m.redis.start(); err != nil {
		return err
	}
	orders, err := json.Marshal(map[string]string{"data": filepath.Join(m.dir, "objects/data"), "sidecar": filepath.Join(m.dir, "objects/meta"),
		"address": m.address("store", s3Port), "access_key": accessKey, "secret_key": secretKey})
	if err != nil {
		return err
	}
	m.store = m.process("store", "store", m.binary, "s3-child")
	m.store.stdin, m.store.env = string(orders), m.shape.env
	if err := m.store.start(); err != nil {
		return err
	}
	for _, a := range []string{m.address("store", s3Port), m.address("redis", redisPort)} {
		if err := m.eventually(20*time.Second, func() error {
			c, err := m.dial(context.Background(), "tcp", a)
			if err == nil {
				err = c.Close()
			}
			return err
		}); err != nil {
			return fmt.Errorf("%s does not answer: %w", a, err)
		}
	}
	return nil
}

func (m *mesh) eventually(limit time.Duration, f func() error) error {
	deadline := time.Now().Add(limit)
	for {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// disk makes a folder for a member's data, on a file system of its own where it
// is to be filled.
func (m *mesh) disk(name string, small bool, size string) (string, error) {
	dir := filepath.Join(m.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	if !small {
		return dir, nil
	}
	if err := syscall.Mount("chaos", dir, "tmpfs", 0, "size="+size); err != nil {
		return "", fmt.Errorf("mount a small disk: %w", err)
	}
	m.mounts = append(m.mounts, dir)
	return dir, nil
}

func (m *mesh) serverEnv() []string {
	return append([]string{"TUNEMESH_S3_ACCESS_KEY=" + accessKey, "TUNEMESH_S3_SECRET_KEY=" + secretKey,
		"TUNEMESH_REDIS_URL=redis://" + m.address("redis", redisPort), "XDG_CONFIG_HOME=" + filepath.Join(m.dir, "config")}, m.shape.env...)
}

func (m *mesh) urls() []string {
	var out []string
	for _, s := range m.servers {
		out = append(out, s.url)
	}
	return out
}

func (m *mesh) startServers() error {
	for i := range m.shape.servers {
		name := fmt.Sprintf("s%d", i+1)
		small := m.shape.smallDisks && i == m.shape.servers-1
		dir, err := m.disk(name, small, "192m")
		if err != nil {
			return err
		}
		s := &member{process: m.process(name, name), dir: dir, url: "https://" + m.address(name, httpPort), small: small}
		s.env = append(m.serverEnv(), "TUNEMESH_CHAOS_ORDERS="+filepath.Join(m.dir, name))
		if m.shape.snapshots > 0 {
			if err := os.WriteFile(filepath.Join(m.dir, name+".snapshots"), []byte(strconv.Itoa(m.shape.snapshots)), 0o644); err != nil {
				return err
			}
		}
		m.servers = append(m.servers, s)
	}
	return m.formCluster()
}

// token reads one of the founder's tokens.
func (m *mesh) token(name string) string {
	data, err := os.ReadFile(filepath.Join(m.servers[0].dir, name+".token"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

// client speaks to the given servers, by default to all, without retries: the
// tests want to see every outcome.
func (m *mesh) client(servers ...string) *client.Client {
	return m.clientAs("admin", servers...)
}

func (m *mesh) clientAs(token string, servers ...string) *client.Client {
	if len(servers) == 0 {
		servers = m.urls()
	}
	return client.New(client.Config{Servers: servers, Token: m.token(token), HTTP: m.http, UserAgent: "chaos", Retries: -1, CallTimeout: 8 * time.Second})
}

// patient is a client as people use it.
func (m *mesh) patient() *client.Client {
	return client.New(client.Config{Servers: m.urls(), Token: m.token("admin"), HTTP: m.http, UserAgent: "chaos-patient", Retries: 40, CallTimeout: 10 * time.Second})
}

func (m *mesh) startAgents() error {
	for i := range m.shape.agents {
		name := fmt.Sprintf("a%d", i+1)
		small := m.shape.smallDisks && i == m.shape.agents-1
		dir, err := m.disk(name, small, "384m")
		if err != nil {
			return err
		}
		a := &member{process: m.process(name, name), dir: dir, small: small}
		a.argv = m.agentArgs(a)
		a.env = append([]string{"TUNEMESH_TOKEN=" + m.token("node")}, m.shape.env...)
		if err := a.start(); err != nil {
			return err
		}
		m.agents = append(m.agents, a)
	}
	return m.eventually(60*time.Second, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		nodes, err := m.client().Nodes(ctx)
		if err == nil && len(nodes) < m.shape.agents {
			err = fmt.Errorf("%d of %d nodes have joined", len(nodes), m.shape.agents)
		}
		return err
	})
}

// close ends all processes by their ids and removes namespaces and mounts.
func (m *mesh) close() {
	for _, a := range m.agents {
		a.stop(10 * time.Second)
	}
	for _, n := range m.hosts {
		if strings.Contains(n.name, "-a") {
			killNamespace(n.name) // shims and trainers outlive their agent
		}
	}
	for _, s := range m.servers {
		if s.process != nil {
			s.stop(10 * time.Second)
		}
	}
	for _, p := range []*process{m.store, m.redis} {
		if p != nil {
			p.stop(5 * time.Second)
		}
	}
	m.fabric.close()
	for _, n := range m.hosts {
		if err := n.close(); err != nil {
			m.say("remove namespace: %v", err)
		}
	}
	for _, dir := range m.mounts {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			m.say("unmount %s: %v", dir, err)
		}
	}
}

// raceBuild: the binary has the race detector.
func raceBuild() bool { return os.Getenv("TUNEMESH_CHAOS_RACE") != "" }

// races is what the detector's reports are called, with a pid after it.
func (m *mesh) races() string { return filepath.Join(m.dir, "race") }

// sourceDir is what the program under test is built from: this source tree unless
// TUNEMESH_CHAOS_SOURCE names another.
func sourceDir() string { return cmp.Or(os.Getenv("TUNEMESH_CHAOS_SOURCE"), "../..") }

// buildBinary builds the program from a source tree.
func buildBinary(source, out, version string, flags ...string) error {
	args := append([]string{"build", "-o", out, "-ldflags", "-X main.version=" + version}, flags...)
	cmd := exec.Command("go", append(args, "./cmd/tunemesh")...)
	cmd.Dir = source
	var words bytes.Buffer
	cmd.Stdout, cmd.Stderr = &words, &words
	if err := cmd.Run(); err != nil {
		return errors.Join(fmt.Errorf("build the binary: %w", err), errors.New(words.String()))
	}
	return nil
}
