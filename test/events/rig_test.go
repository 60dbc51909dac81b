//go:build linux

package events_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
	"github.com/tunemesh/tunemesh/controlplane/artifacts/s3test"
	"github.com/tunemesh/tunemesh/controlplane/auth"
	"github.com/tunemesh/tunemesh/controlplane/consensus"
	"github.com/tunemesh/tunemesh/controlplane/dispatch"
	"github.com/tunemesh/tunemesh/controlplane/events"
	"github.com/tunemesh/tunemesh/controlplane/events/archive"
	"github.com/tunemesh/tunemesh/controlplane/events/redis"
	"github.com/tunemesh/tunemesh/controlplane/rest"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/nodeagent"
	"github.com/tunemesh/tunemesh/nodeagent/launcher"
)

// The test binary is also the shim, the stage and the readers of a benchmark.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "shim":
			os.Exit(launcher.ShimMain(os.Args[2:]))
		case "emit":
			os.Exit(emit(os.Args[2:]))
		case "readers":
			os.Exit(readers(os.Args[2:]))
		}
	}
	os.Exit(s3test.Main(m))
}

// emit prints COUNT lines, RATE a second (0: as fast as it can), and waits for
// the file GO before, if one is named: a stage.
func emit(args []string) int {
	count, _ := strconv.Atoi(args[0])
	rate, _ := strconv.ParseFloat(args[1], 64)
	for len(args) > 2 {
		if _, err := os.Stat(args[2]); err == nil {
			break
		}
		time.Sleep(time.Millisecond)
	}
	begin := time.Now()
	var b []byte
	for i := 1; i <= count; {
		n := 1
		if rate > 0 {
			due := begin.Add(time.Duration(float64(i-1) / rate * 1e9))
			if wait := time.Until(due); wait > 0 {
				time.Sleep(wait)
			}
		} else {
			n = min(100, count-i+1)
		}
		b = b[:0]
		for ; n > 0; n-- {
			b = fmt.Appendf(b, `{"timestamp":%q,"level":"METRIC","agent":"TrainingAgent","message":"line %d","step":%d,"epoch":1.5,"loss":0.731,"learning_rate":0.0002,"samples_per_sec":54.2}`+"\n",
				time.Now().UTC().Format(time.RFC3339Nano), i, i)
			i++
		}
		if _, err := os.Stdout.Write(b); err != nil {
			return 1
		}
	}
	if err := os.WriteFile(os.Getenv("TUNEMESH_RESULT"), []byte(`{"status":"success"}`), 0o600); err != nil {
		return 1
	}
	return 0
}

// cluster is servers that share a state, of which one leads.
type cluster struct {
	t       testing.TB
	dir     string
	store   *state.Store
	objects *artifacts.Store
	redis   string // URL; empty: each server has its own disk
	tokens  map[api.Role]string
	servers []*server
	leader  atomic.Int32

	mu    sync.Mutex
	index uint64
	term  func() // ends the leader's loop
}

// server is one of them.
type server struct {
	c     *cluster
	i     int
	addr  string       // the same for its whole life
	first net.Listener // until it is opened
	log   events.Log
	whole *archive.Log
	d     *dispatch.Dispatcher
	rest  *rest.Server
	http  *http.Server
}

func newCluster(t testing.TB, n int, redisURL string) *cluster {
	t.Helper()
	store, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dir: t.TempDir(), store: store, redis: redisURL, tokens: map[api.Role]string{}, term: func() {}}
	c.objects, _ = s3test.Shared(t)
	c.must(state.SetMinVersion{Version: api.ProtocolVersion})
	secret, token := auth.NewToken("user", api.RoleUser, time.Now())
	c.must(state.CreateToken{Token: token})
	c.tokens[api.RoleUser] = secret
	for i := range n {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		c.servers = append(c.servers, &server{c: c, i: i, addr: listener.Addr().String(), first: listener})
	}
	for i := range n {
		c.open(i)
	}
	c.elect(0)
	t.Cleanup(func() {
		c.term()
		for _, s := range c.servers {
			s.close()
		}
	})
	return c
}

func (c *cluster) must(cmd state.Command) {
	c.t.Helper()
	if _, err := c.apply(cmd); err != nil {
		c.t.Fatalf("%s: %v", cmd.Kind(), err)
	}
}

func (c *cluster) apply(cmd state.Command) (state.Result, error) {
	entry, err := state.Encode(cmd)
	if err != nil {
		return state.Result{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.index++
	r, err := c.store.Apply(c.index, entry)
	if err == nil {
		err = r.Err
	}
	return r, err
}

// open starts a server, on the address that it had before.
func (c *cluster) open(i int) {
	c.t.Helper()
	s := c.servers[i]
	dir := filepath.Join(c.dir, fmt.Sprint("server", i))
	quiet := slog.New(slog.DiscardHandler)
	base := func(job string) events.Base { return events.BaseOf(c.store.EventArchives(job)) }
	err := os.MkdirAll(dir, 0o700)
	if err == nil && c.redis != "" {
		s.log, err = redis.Open(context.Background(), redis.Config{URL: c.redis, Base: base, Log: quiet})
	} else if err == nil {
		s.log, err = events.OpenDisk(events.DiskConfig{Dir: filepath.Join(dir, "events"), Base: base, Log: quiet})
	}
	if err == nil {
		s.whole, err = archive.New(archive.Config{Log: s.log, Objects: c.objects, Parts: c.store.EventArchives, Dir: dir})
	}
	if err != nil {
		c.t.Fatal(err)
	}
	s.d = dispatch.New(dispatch.Config{Raft: s, Store: c.store, Events: events.Projection{Log: s.whole}, Archiver: archiver{s.whole}, NewLeaderGrace: time.Minute})
	if s.rest, err = rest.New(rest.Config{Raft: s, Store: c.store, Dispatch: s.d, Events: s.whole, Objects: c.objects, Version: api.Version{Version: "test"}}); err != nil {
		c.t.Fatal(err)
	}
	listener := s.first
	s.first = nil
	if listener == nil {
		if listener, err = net.Listen("tcp", s.addr); err != nil {
			c.t.Fatal(err)
		}
	}
	s.http = s.rest.HTTPServer()
	go func() { _ = s.http.Serve(listener) }()
}

// close ends a server at once: connections break.
func (s *server) close() {
	s.rest.Close()
	_ = s.http.Close()
	_ = s.whole.Close()
}

// archiver is the archive as the leader's loop takes it.
type archiver struct{ log *archive.Log }

func (a archiver) Archive(ctx context.Context, job string, recorded []api.EventArchive, transitions uint64, lines map[uint64]uint64, anyway bool) (*api.EventArchive, string, error) {
	return a.log.Archive(ctx, job, recorded, archive.Want{Transitions: transitions, Lines: lines, Anyway: anyway})
}
func (a archiver) Finish(context.Context, string) error { return nil }

// elect makes a server the leader.
func (c *cluster) elect(i int) {
	c.term()
	c.leader.Store(int32(i))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	d := c.servers[i].d
	go func() { defer close(done); _ = d.Run(ctx) }()
	c.term = func() { cancel(); <-done }
}

// server as Raft.

func (s *server) Apply(_ context.Context, cmd state.Command) (state.Result, error) {
	if !s.IsLeader() {
		return state.Result{}, &consensus.NotLeaderError{}
	}
	return s.c.apply(cmd)
}
func (s *server) ConsistentRead(context.Context) error {
	if !s.IsLeader() {
		return &consensus.NotLeaderError{}
	}
	return nil
}
func (s *server) Barrier(context.Context) error           { return nil }
func (s *server) WaitIndex(context.Context, uint64) error { return nil }
func (s *server) IsLeader() bool                          { return int(s.c.leader.Load()) == s.i }
func (s *server) LastContact() time.Time                  { return time.Now() }
func (s *server) LeaderHTTP() (string, bool) {
	return "http://" + s.c.servers[s.c.leader.Load()].addr, true
}

func (c *cluster) client(role api.Role) *client.Client {
	var urls []string
	for _, s := range c.servers {
		urls = append(urls, "http://"+s.addr)
	}
	t := &http.Transport{MaxIdleConnsPerHost: 16}
	c.t.Cleanup(t.CloseIdleConnections)
	return client.New(client.Config{Servers: urls, Token: c.tokens[role], HTTP: &http.Client{Transport: t}})
}

// credential gives the agent on a folder its own, once.
func (c *cluster) credential(dir string) {
	c.t.Helper()
	if c.tokens[api.RoleNode] != "" {
		return
	}
	err := os.MkdirAll(dir, 0o750)
	var id nodeagent.Identity
	if err == nil {
		id, err = nodeagent.LoadIdentity(dir)
	}
	if err != nil {
		c.t.Fatal(err)
	}
	secret, token := auth.NewToken("node", api.RoleNode, time.Now())
	token.NodeID = id.NodeID
	c.must(state.CreateJoinToken{Token: token})
	c.tokens[api.RoleNode] = secret
}

// agent runs a node; the returned function ends it and waits, its stages go on.
func (c *cluster) agent(change ...func(*nodeagent.Config)) (dir string, end func()) {
	c.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	cfg := nodeagent.Config{
		Dir: filepath.Join(c.dir, "agent"), Name: "test", Executable: exe, HeartbeatInterval: time.Second, PollWait: 5 * time.Second,
		RetryBase: 20 * time.Millisecond, RetryMax: 200 * time.Millisecond, ProbeInterval: 300 * time.Millisecond,
		Detect: func(context.Context, string) api.Capability {
			return api.Capability{OS: "linux", Arch: "amd64", CPU: api.CPU{Cores: 8}, MemoryBytes: 8 << 30, DiskBytes: 100 << 30, Launchers: []string{"local"},
				Engines: []api.Engine{{Name: "native", Available: true, Devices: []string{"cpu"}}}}
		},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	for _, f := range change {
		f(&cfg)
	}
	c.credential(cfg.Dir)
	a, err := nodeagent.New(cfg, c.client(api.RoleNode))
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := a.Run(ctx); err != nil {
			c.t.Errorf("agent: %v", err)
		}
	}()
	end = sync.OnceFunc(func() { cancel(); <-done })
	c.t.Cleanup(func() {
		end()
		l := launcher.NewLocal(exe)
		dirs, _ := filepath.Glob(filepath.Join(cfg.Dir, "attempts", "*", "launch"))
		for _, d := range dirs {
			if h, err := l.Find(d); err == nil {
				_ = l.Kill(h)
			}
		}
	})
	return cfg.Dir, end
}

// submit submits a job of stages that print so many lines each, at a rate.
func (c *cluster) submit(rate float64, lines ...int) string {
	c.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	p := &api.Pipeline{}
	for i, n := range lines {
		p.Nodes = append(p.Nodes, api.StageSpec{Name: fmt.Sprint("s", i), Kind: api.KindCustom, Command: []string{exe, "emit", strconv.Itoa(n), fmt.Sprint(rate)}})
		if i > 0 {
			p.Edges = append(p.Edges, api.Edge{From: fmt.Sprint("s", i-1), To: fmt.Sprint("s", i)})
		}
	}
	ctx := context.Background()
	user := c.client(api.RoleUser)
	file, err := c.objects.PutBytes(ctx, api.BucketDatasets, "raw/ds_1.csv", []byte("x"))
	if err != nil {
		c.t.Fatal(err)
	}
	c.must(state.CreateDataset{Dataset: api.Dataset{ID: "ds_1", Name: "t.csv", Format: "csv", Size: 1, SHA256: file.SHA256, Key: "raw/ds_1.csv", CreatedAt: time.Unix(1, 0)}})
	job, err := user.SubmitJob(ctx, api.JobSpec{Dataset: "ds_1", Pipeline: p})
	if err != nil {
		c.t.Fatal(err)
	}
	return job.ID
}

// tally checks a reader's events: each line once, in its order.
type tally struct {
	t    testing.TB
	mu   sync.Mutex
	next map[string]uint64 // by source
	n    int
}

func newTally(t testing.TB) *tally { return &tally{t: t, next: map[string]uint64{}} }

func (y *tally) take(e api.Event) error {
	y.mu.Lock()
	defer y.mu.Unlock()
	source := e.Level
	if e.Level != api.LevelState {
		source = fmt.Sprint(e.Stage, "/", e.Attempt)
		if want := fmt.Sprintf("line %d", e.SourceSeq); e.Message != want {
			return fmt.Errorf("event %d is %q, want %q", e.Seq, e.Message, want)
		}
	}
	if y.next[source]++; e.SourceSeq != y.next[source] {
		return fmt.Errorf("%s: line %d comes where %d is due (event %d)", source, e.SourceSeq, y.next[source], e.Seq)
	}
	y.n++
	return nil
}

func (y *tally) count(source string) uint64 {
	y.mu.Lock()
	defer y.mu.Unlock()
	return y.next[source]
}

// until waits for a condition.
func until(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// wire returns a stream as it is on the wire, to its end.
func (c *cluster) wire(i int, job, query, accept string, header ...string) string {
	c.t.Helper()
	req, err := http.NewRequest("GET", "http://"+c.servers[i].addr+"/v1/jobs/"+job+"/events?"+query, nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+c.tokens[api.RoleUser])
	req.Header.Set("Accept", accept)
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	t := &http.Transport{DisableKeepAlives: true}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		c.t.Fatalf("%s: %s, %v", query, resp.Status, err)
	}
	return string(data)
}

// redisServer is a real Redis of the test's own.
type redisServer struct {
	t    testing.TB
	dir  string
	addr string
	args []string
	cmd  *exec.Cmd
}

func startRedis(t testing.TB, args ...string) *redisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("no redis-server on PATH (Debian: apt-get install redis-server)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &redisServer{t: t, dir: t.TempDir(), addr: l.Addr().String(), args: args}
	_ = l.Close()
	r.start()
	t.Cleanup(r.kill)
	return r
}

func (r *redisServer) start() {
	r.t.Helper()
	_, port, _ := net.SplitHostPort(r.addr)
	args := append([]string{"--bind", "127.0.0.1", "--port", port, "--dir", r.dir, "--appendonly", "yes", "--save", "", "--daemonize", "no"}, r.args...)
	r.cmd = exec.Command("redis-server", args...)
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	until(r.t, "Redis answers", func() bool { return strings.HasPrefix(r.tell("PING"), "+PONG") })
}

func (r *redisServer) tell(command string) string {
	c, err := net.DialTimeout("tcp", r.addr, time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	fmt.Fprintf(c, "%s\r\n", command)
	b := make([]byte, 64)
	n, _ := c.Read(b)
	return string(b[:n])
}

func (r *redisServer) kill() {
	if r.cmd != nil {
		_ = r.cmd.Process.Kill()
		_ = r.cmd.Wait()
		r.cmd = nil
	}
}

func (r *redisServer) url() string { return "redis://" + r.addr }
