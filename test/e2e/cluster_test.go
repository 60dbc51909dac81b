package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
)

// cluster is three servers of the real binary on loopback, over TLS, with an
// object store of their own process.
type cluster struct {
	t       *testing.T
	dir     string
	secret  string
	s3      string // host:port
	servers map[string]*process
	agents  []*process
	// http and gossip are where each server listens, by name.
	http, gossip map[string]string
}

// process is one process of a test, ended with it.
type process struct {
	name   string
	args   []string
	dir    string
	cmd    *exec.Cmd
	log    *lockedBuffer
	exited chan struct{}
}

const (
	s3Access = "cluster-test-access"
	s3Secret = "cluster-test-secret-key"
)

func (c *cluster) start(p *process, env ...string) {
	c.t.Helper()
	p.log = &lockedBuffer{}
	p.cmd = exec.Command(binary(c.t), p.args...)
	p.cmd.Env = append(os.Environ(), append([]string{"XDG_CONFIG_HOME=" + filepath.Join(c.dir, "config"), "TUNEMESH_S3_ACCESS_KEY=" + s3Access, "TUNEMESH_S3_SECRET_KEY=" + s3Secret}, env...)...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	p.exited = make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(p.exited) }()
}

func (p *process) stop(signal os.Signal) {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(signal)
	select {
	case <-p.exited:
	case <-time.After(30 * time.Second):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
	p.cmd = nil
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	c := &cluster{t: t, dir: t.TempDir(), servers: map[string]*process{}, http: map[string]string{}, gossip: map[string]string{}}
	t.Cleanup(func() {
		for _, a := range c.agents {
			a.stop(os.Interrupt)
		}
		for _, s := range c.servers {
			s.stop(os.Interrupt)
		}
		if t.Failed() {
			for name, s := range c.servers {
				t.Logf("log of %s:\n%s", name, tail(s.log.String(), 4000))
			}
			for _, a := range c.agents {
				t.Logf("log of %s:\n%s", a.name, tail(a.log.String(), 3000))
			}
		}
		// Trainers outlive their agents on purpose.
		m := &mesh{t: t, dir: c.dir, mark: "XDG_CONFIG_HOME=" + filepath.Join(c.dir, "config")}
		m.killAll()
	})
	c.startStore()
	out, err := exec.Command(binary(t), "token", "new-cluster").Output()
	if err != nil {
		t.Fatal(err)
	}
	c.secret = filepath.Join(c.dir, "cluster.secret")
	if err := os.WriteFile(c.secret, out, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"s1", "s2", "s3", "s4"} {
		c.http[name], c.gossip[name] = freeAddr(t), freeAddr(t)
	}
	for _, name := range []string{"s1", "s2", "s3"} {
		c.servers[name] = &process{name: name, dir: filepath.Join(c.dir, name), args: append(c.args(name),
			"--bootstrap-expect", "3", "--cluster-secret-file", c.secret, "--join", c.http["s1"], "--join", c.http["s2"]+","+c.http["s3"])}
		c.start(c.servers[name])
	}
	c.awaitPeers("three voters", func(list []api.Peer) bool { return len(list) == 3 && voters(list) == 3 })
	return c
}

func (c *cluster) args(name string) []string {
	return []string{"controlplane", "--name", name, "--data-dir", filepath.Join(c.dir, name), "--http-addr", c.http[name], "--gossip-addr", c.gossip[name], "--s3-endpoint", c.s3}
}

// startStore starts the object store as a process of its own.
func (c *cluster) startStore() {
	c.t.Helper()
	c.s3 = freeAddr(c.t)
	data := filepath.Join(c.dir, "objects")
	if err := os.MkdirAll(data, 0o700); err != nil {
		c.t.Fatal(err)
	}
	orders, err := json.Marshal(map[string]string{"data": data, "address": c.s3, "access_key": s3Access, "secret_key": s3Secret})
	if err != nil {
		c.t.Fatal(err)
	}
	cmd := exec.Command(binary(c.t), "s3-child")
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = in.Close(); _ = cmd.Wait() })
	if _, err := in.Write(append(orders, '\n')); err != nil {
		c.t.Fatal(err)
	}
	deadline := time.Now().Add(20 * time.Second)
	for {
		conn, err := net.Dial("tcp", c.s3)
		if err == nil {
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// token is the founders' administrator's, which every founder has.
func (c *cluster) token() string {
	for _, name := range []string{"s1", "s2", "s3"} {
		if data, err := os.ReadFile(filepath.Join(c.dir, name, "admin.token")); err == nil {
			return strings.TrimSpace(string(data))
		}
	}
	return ""
}

func (c *cluster) urls() []string {
	var out []string
	for _, name := range []string{"s1", "s2", "s3"} {
		out = append(out, "https://"+c.http[name])
	}
	return out
}

func (c *cluster) client() *client.Client {
	return client.New(client.Config{Servers: c.urls(), Token: c.token(), UserAgent: "e2e"})
}

// cli runs a client verb and returns its standard output.
func (c *cluster) cli(args ...string) (string, error) {
	return c.cliAt(strings.Join(c.urls(), ","), args...)
}

func (c *cluster) cliAt(server string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(c.t), args...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(c.dir, "config"), "TUNEMESH_SERVER="+server, "TUNEMESH_TOKEN="+c.token())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("tunemesh %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), err
}

func (c *cluster) peers() ([]api.Peer, error) {
	out, err := c.cli("cluster", "peers", "--json")
	if err != nil {
		return nil, err
	}
	var list []api.Peer
	return list, json.Unmarshal([]byte(out), &list)
}

func voters(list []api.Peer) (n int) {
	for _, p := range list {
		if p.Suffrage == api.Voter && p.Reachable {
			n++
		}
	}
	return n
}

func (c *cluster) awaitPeers(what string, good func([]api.Peer) bool) []api.Peer {
	c.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		list, err := c.peers()
		if err == nil && good(list) {
			return list
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("%s: not within 60 s: %s %v", what, pretty(list), err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func named(list []api.Peer, name string) (api.Peer, bool) {
	i := slices.IndexFunc(list, func(p api.Peer) bool { return p.Name == name })
	if i < 0 {
		return api.Peer{}, false
	}
	return list[i], true
}

func leader(list []api.Peer) string {
	for _, p := range list {
		if p.Leader {
			return p.Name
		}
	}
	return ""
}

// join starts an agent by the very line that `token create` printed.
func (c *cluster) join(line, name string) *process {
	c.t.Helper()
	words := strings.Fields(line)
	if len(words) < 2 || words[0] != "tunemesh" || words[1] != "nodeagent" {
		c.t.Fatalf("token create prints %q", line)
	}
	dir := filepath.Join(c.dir, name)
	a := &process{name: name, dir: dir, args: append(words[1:], "--data-dir", dir, "--name", name, "--gossip-addr", "127.0.0.1:0", "--metrics-addr", "")}
	c.agents = append(c.agents, a)
	c.start(a, powerMark+dir)
	return a
}

// Three servers find each other, trust each other and two agents, and run a job.
// The leader dies in the middle of it, the job ends all the same; the dead
// server comes back without its disk and takes its place; another joins by a
// token, leads and leaves.
func TestAClusterFromItsSecretToItsLastServer(t *testing.T) {
	c := newCluster(t)
	ctx := t.Context()

	out, err := c.cliAt("https://"+c.http["s2"], "token", "create", "--role", "node", "--ttl", "1h", "--uses", "2")
	if err != nil || strings.Count(out, "\n") != 1 || !strings.Contains(out, "--server https://"+c.http["s2"]+" --token M1") {
		t.Fatalf("token create prints %q, %v", out, err)
	}
	for _, name := range []string{"ws1", "ws2"} {
		c.join(out, name)
	}
	c.awaitNodes(2)

	c.runTheGuide()

	// Another cluster's token, and one whose CA was changed, are refused before
	// anything is sent.
	forged := strings.Replace(c.token(), "M1", "M1"+strings.Repeat("0", 64), 1)[:2+64] + c.token()[2+64:]
	if err := client.New(client.Config{Servers: c.urls(), Token: forged, Retries: -1}).Ready(ctx); !errors.Is(err, client.ErrWrongCA) {
		t.Errorf("a client that trusts another CA: %v", err)
	}

	data := tickets(t)
	ds, err := c.client().UploadDataset(ctx, "tickets.csv", bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	job, err := c.client().SubmitJob(ctx, api.JobSpec{Dataset: ds.ID, Config: []byte(short)})
	if err != nil {
		t.Fatal(err)
	}
	c.awaitTraining(job.ID)

	list, err := c.peers()
	if err != nil {
		t.Fatal(err)
	}
	dead := leader(list)
	was, _ := named(list, dead)
	c.servers[dead].stop(syscall.SIGKILL)
	killed := time.Now()
	second, err := c.client().SubmitJob(ctx, api.JobSpec{Dataset: ds.ID, Config: []byte(short)})
	if err != nil {
		t.Fatalf("no write after the leader's death: %v", err)
	}
	t.Logf("the leader %s was killed; the next write was acknowledged after %s", dead, time.Since(killed).Round(10*time.Millisecond))
	if _, err := c.client().CancelJob(ctx, second.ID, "only a sign of life"); err != nil {
		t.Errorf("cancel: %v", err)
	}
	done := c.await(job.ID, 5*time.Minute)
	if done.State != api.JobSucceeded {
		t.Fatalf("the job is %s: %s\n%s", done.State, done.Reason, pretty(done.Stages))
	}
	for _, s := range done.Stages {
		if s.Attempt != 1 {
			t.Errorf("stage %s took %d attempts: the leader's death cost one", s.Name, s.Attempt)
		}
	}

	// The dead server's disk is lost. It comes back by the flags of its first
	// start, with another id, in the place of the old one.
	if err := os.RemoveAll(c.servers[dead].dir); err != nil {
		t.Fatal(err)
	}
	c.start(c.servers[dead])
	list = c.awaitPeers("the replaced server votes", func(list []api.Peer) bool {
		p, ok := named(list, dead)
		return ok && p.ID != was.ID && len(list) == 3 && voters(list) == 3
	})

	c.transfer(list, dead)
	c.joinAndLeave()
	c.refuseBelowQuorum()
}

// runTheGuide runs the commands of docs/cluster.md, and those that make Prometheus's
// token, as they stand there.
func (c *cluster) runTheGuide() {
	t := c.t
	t.Helper()
	work := t.TempDir()
	if err := os.Symlink(binary(t), filepath.Join(work, "tunemesh")); err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, at := range [][2]string{{"cluster", "Founding"}, {"cluster", "Looking after it"}, {"cluster", "Workstations"}, {"observability", "Metrics"}} {
		for _, block := range blocks(t, "docs/"+at[0]+".md", at[1], "sh") {
			for line := range strings.Lines(block) {
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				cmd := exec.CommandContext(ctx, "sh", "-c", line)
				cmd.Dir = work
				cmd.Env = append(os.Environ(), "PATH="+work+":"+os.Getenv("PATH"), "XDG_CONFIG_HOME="+filepath.Join(c.dir, "config"), "TUNEMESH_SERVER="+strings.Join(c.urls(), ","), "TUNEMESH_TOKEN="+c.token())
				out, err := cmd.CombinedOutput()
				cancel()
				if err != nil {
					t.Errorf("%s: %v\n%s", line, err, tail(string(out), 2000))
				}
				ran++
			}
		}
	}
	if ran < 9 {
		t.Errorf("only %d commands were found", ran)
	}
}

// transfer lets the replaced server lead.
func (c *cluster) transfer(list []api.Peer, to string) {
	c.t.Helper()
	if out, err := c.cli("cluster", "transfer-leader", to); err != nil || !strings.Contains(out, to+" (") {
		c.t.Fatalf("transfer-leader: %q, %v", out, err)
	}
	c.awaitPeers("the named server leads", func(list []api.Peer) bool { return leader(list) == to })
}

// joinAndLeave takes a fourth server in by a token, and out again.
func (c *cluster) joinAndLeave() {
	t := c.t
	t.Helper()
	out, err := c.cliAt("https://"+c.http["s1"], "token", "create", "--role", "server", "--uses", "1")
	words := strings.Fields(out)
	if err != nil || len(words) < 6 || words[1] != "controlplane" {
		t.Fatalf("token create --role server prints %q, %v", out, err)
	}
	s4 := &process{name: "s4", dir: filepath.Join(c.dir, "s4"), args: append(c.args("s4"), words[2:]...)}
	c.servers["s4"] = s4
	c.start(s4)
	c.awaitPeers("the fourth server votes", func(list []api.Peer) bool {
		p, ok := named(list, "s4")
		return ok && p.Suffrage == api.Voter && len(list) == 4
	})
	// It answers as the others do, and signs what they do.
	if _, err := c.cliAt("https://"+c.http["s4"], "job", "list"); err != nil {
		t.Error(err)
	}
	if _, err := c.cli("cluster", "transfer-leader", "s4"); err != nil {
		t.Error(err)
	}
	if out, err := c.cliAt("https://"+c.http["s4"], "cluster", "leave"); err != nil {
		t.Fatalf("leave: %q, %v", out, err)
	}
	select {
	case <-s4.exited:
	case <-time.After(20 * time.Second):
		t.Error("the server that left did not end")
	}
	c.awaitPeers("three again", func(list []api.Peer) bool { return len(list) == 3 && voters(list) == 3 && leader(list) != "" })
	if _, err := os.Stat(filepath.Join(s4.dir, "raft")); err == nil {
		t.Error("the server that left kept its Raft log where it would start with it")
	}
	delete(c.servers, "s4")
}

// refuseBelowQuorum shows which removals are refused.
func (c *cluster) refuseBelowQuorum() {
	t := c.t
	t.Helper()
	list, err := c.peers()
	if err != nil {
		t.Fatal(err)
	}
	lead := leader(list)
	var others []string
	for _, p := range list {
		if p.Name != lead {
			others = append(others, p.Name)
		}
	}
	gone, alive := others[0], others[1]
	c.servers[gone].stop(syscall.SIGKILL)
	if out, err := c.cli("cluster", "remove", alive); err == nil || !strings.Contains(err.Error(), "--force") || !strings.Contains(err.Error(), gone) {
		t.Errorf("to remove a live one of two: %q, %v", out, err)
	}
	if out, err := c.cli("cluster", "remove", "nobody"); err == nil || !strings.Contains(err.Error(), "there is no server") {
		t.Errorf("to remove a stranger: %q, %v", out, err)
	}
	if out, err := c.cli("cluster", "remove", gone); err != nil || !strings.Contains(out, "is removed") {
		t.Errorf("to remove the dead one: %q, %v", out, err)
	}
	c.awaitPeers("two are left", func(list []api.Peer) bool { return len(list) == 2 && voters(list) == 2 })

	// The removed one, started on its old log, is told so and ends.
	c.start(c.servers[gone])
	select {
	case <-c.servers[gone].exited:
		if log := c.servers[gone].log.String(); !strings.Contains(log, "it was removed") {
			t.Errorf("a removed server says:\n%s", tail(log, 2000))
		}
	case <-time.After(30 * time.Second):
		t.Error("a removed server goes on")
	}
}

func (c *cluster) awaitNodes(n int) {
	c.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		list, err := c.client().Nodes(c.t.Context())
		alive := 0
		for _, node := range list {
			if node.Status == api.NodeAlive {
				alive++
			}
		}
		if err == nil && alive == n && len(list) == n {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("want %d nodes: %s %v", n, pretty(list), err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

func (c *cluster) awaitTraining(id string) {
	c.t.Helper()
	deadline := time.Now().Add(2 * time.Minute)
	for {
		job, err := c.client().Job(c.t.Context(), id)
		if err == nil && stage(c.t, job, "training").State == api.StageRunning {
			return
		}
		if time.Now().After(deadline) || job.State.Terminal() {
			c.t.Fatalf("no training: %s %v", pretty(job.Stages), err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (c *cluster) await(id string, limit time.Duration) api.JobDetail {
	c.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		job, err := c.client().Job(c.t.Context(), id)
		if err == nil && job.State.Terminal() {
			return job
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("job %s is still %s: %s %v", id, job.State, pretty(job.Stages), err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// An address that other servers cannot use is refused at the start.
func TestAnAddressThatOthersCannotReachIsRefused(t *testing.T) {
	dir := t.TempDir()
	for what, c := range map[string]struct {
		args []string
		want string
	}{
		"loopback beside a remote peer": {[]string{"--http-addr", "127.0.0.1:0", "--join", "192.0.2.7:7700"}, "at the loopback address"},
		"no address at all":             {[]string{"--http-addr", "0.0.0.0:0", "--join", "192.0.2.7:7700"}, "--advertise"},
	} {
		args := append([]string{"controlplane", "--data-dir", filepath.Join(dir, "s"), "--bootstrap-expect", "3", "--gossip-addr", "127.0.0.1:0"}, c.args...)
		cmd := exec.CommandContext(t.Context(), binary(t), args...)
		cmd.Env = append(os.Environ(), "TUNEMESH_CLUSTER_SECRET="+newSecret(t))
		out, err := cmd.CombinedOutput()
		if err == nil || !strings.Contains(string(out), c.want) {
			t.Errorf("%s: %v\n%s", what, err, out)
		}
	}
}

func newSecret(t *testing.T) string {
	t.Helper()
	out, err := exec.Command(binary(t), "token", "new-cluster").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}
