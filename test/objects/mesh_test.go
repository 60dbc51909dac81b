package objects_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/minio/minio-go/v7/pkg/credentials"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/controlplane"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
	"github.com/tunemesh/tunemesh/controlplane/artifacts/s3test"
	"github.com/tunemesh/tunemesh/nodeagent"
	"github.com/tunemesh/tunemesh/nodeagent/launcher"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

// The test binary is also the store, the shim, the agent to be killed, and a stage.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "shim":
			os.Exit(launcher.ShimMain(os.Args[2:]))
		case "agent":
			os.Exit(agentMain(os.Args[2], os.Args[3], os.Args[4]))
		case "stage":
			os.Exit(stageMain(os.Args[2:]))
		}
	}
	os.Exit(s3test.Main(m))
}

func agentMain(dir, server, credential string) int {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	a, err := nodeagent.New(nodeagent.Config{
		Dir: dir, Name: filepath.Base(dir), Executable: exe, RetryBase: 20 * time.Millisecond, RetryMax: 300 * time.Millisecond, StallTimeout: time.Second,
		Detect: func(context.Context, string) api.Capability {
			return api.Capability{OS: "linux", Arch: "amd64", CPU: api.CPU{Cores: 4}, MemoryBytes: 8 << 30, DiskBytes: 100 << 30, Launchers: []string{"local"},
				Engines: []api.Engine{{Name: "native", Available: true, Devices: []string{"cpu"}}}}
		},
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
	}, client.New(client.Config{Servers: []string{server}, Token: credential}))
	if err == nil {
		err = a.Run(context.Background())
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// sizes of the files that a stage makes, in bytes; its last argument adds one.
var sizes = map[string]int{"empty": 0, "one": 1, "small": 100_000, "medium": 2 << 20}

// checkpointSize is that of the one file of a checkpoint in bytes.
const checkpointSize = 300_000

// content is what a file of a stage holds: it follows from its job's seed.
func content(seed uint64, name string, size int) []byte {
	var key [32]byte
	copy(key[:], fmt.Sprint(seed, name))
	data := make([]byte, size)
	_, _ = rand.NewChaCha8(key).Read(data)
	return data
}

func sumOf(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

// stageMain checks its inputs, saves a checkpoint and makes its files: a stage.
func stageMain(args []string) int {
	seed, _ := strconv.ParseUint(args[0], 10, 64)
	large, _ := strconv.Atoi(args[1])
	fail := func(err error) int {
		fmt.Println(err)
		return 1
	}
	var in contract.Input
	data, err := os.ReadFile(os.Getenv(contract.EnvInput))
	if err == nil {
		err = json.Unmarshal(data, &in)
	}
	if err != nil {
		return fail(err)
	}
	for _, f := range in.Inputs {
		data, err := os.ReadFile(f.Path)
		if err != nil || sumOf(data) != f.SHA256 {
			return fail(fmt.Errorf("input %s is not what was announced: %v", f.Name, err))
		}
	}
	step := filepath.Join(in.CheckpointDir, "step_1")
	if err := os.MkdirAll(step, 0o755); err != nil {
		return fail(err)
	}
	if err := os.WriteFile(filepath.Join(step, "state"), content(seed, "state", checkpointSize), 0o644); err != nil {
		return fail(err)
	}
	fmt.Println(`{"level":"INFO","message":"saved","checkpoint":"step_1"}`)
	result := contract.Result{Status: contract.StatusSuccess, Artifacts: map[string]contract.Artifact{}}
	for name, size := range filesOf(large) {
		if err := os.WriteFile(filepath.Join(in.OutputDir, name), content(seed, name, size), 0o644); err != nil {
			return fail(err)
		}
		result.Artifacts[name] = contract.Artifact{Path: name}
	}
	if data, err = json.Marshal(result); err == nil {
		err = os.WriteFile(os.Getenv(contract.EnvResult), data, 0o644)
	}
	if err != nil {
		return fail(err)
	}
	return 0
}

func filesOf(large int) map[string]int {
	files := map[string]int{}
	for name, size := range sizes {
		files[name] = size
	}
	if large > 0 {
		files["large"] = large
	}
	return files
}

// mesh is a server and agents with a hostile store.
type mesh struct {
	t      *testing.T
	store  artifacts.Config // the real one
	proxy  *proxy
	config controlplane.Config
	server *controlplane.Server
	user   *client.Client
	agents []*agent
}

func newMesh(t *testing.T, seed uint64, agents int) *mesh {
	t.Helper()
	_, embedded := s3test.Start(t)
	m := &mesh{t: t, store: embedded.Config()}
	m.proxy = newProxy(t, m.store.Endpoint, seed)
	ours := m.store
	ours.Endpoint = m.proxy.address()
	m.config = controlplane.Config{
		Dir: t.TempDir(), HTTPAddr: free(t), RaftAddr: free(t), GossipAddr: free(t), Bootstrap: true, PlainHTTP: true,
		S3: ours, SweepInterval: time.Second, SweepAge: 3 * time.Second,
		Log:   slog.New(slog.NewTextHandler(io.Discard, nil)),
		Fatal: func(err error) { t.Errorf("the server wanted to die: %v", err) },
	}
	m.open()
	t.Cleanup(func() {
		if err := m.server.Close(); err != nil {
			t.Error(err)
		}
	})
	token, err := m.server.AdminToken()
	if err != nil {
		t.Fatal(err)
	}
	m.user = client.New(client.Config{Servers: []string{m.server.URL()}, Token: token, HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
	for i := range agents {
		m.agents = append(m.agents, m.newAgent(i))
	}
	return m
}

func free(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func (m *mesh) open() {
	m.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var err error
	if m.server, err = controlplane.Open(ctx, m.config); err != nil {
		m.t.Fatal(err)
	}
}

// agent is a process that is killed now and then.
type agent struct {
	m               *mesh
	dir, credential string
	cmd             *exec.Cmd
	peak            int64 // resident memory in bytes, of those killed so far
}

// peakOf is the most that a process had in memory, in bytes; 0: not known.
func peakOf(pid int) int64 {
	data, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	_, rest, _ := strings.Cut(string(data), "VmHWM:")
	var kib int64
	_, _ = fmt.Sscan(rest, &kib)
	return kib << 10
}

func (m *mesh) newAgent(i int) *agent {
	m.t.Helper()
	token, err := m.server.NodeToken()
	if err != nil {
		m.t.Fatal(err)
	}
	a := &agent{m: m, dir: filepath.Join(m.t.TempDir(), fmt.Sprint("agent", i))}
	if err := os.MkdirAll(a.dir, 0o750); err != nil {
		m.t.Fatal(err)
	}
	id, err := nodeagent.LoadIdentity(a.dir)
	if err != nil {
		m.t.Fatal(err)
	}
	cp := client.New(client.Config{Servers: []string{m.server.URL()}, Token: token})
	defer cp.Close()
	reply, err := nodeagent.Enrol(m.t.Context(), id, filepath.Base(a.dir), cp)
	if err != nil {
		m.t.Fatal(err)
	}
	a.credential = reply.Credential
	a.start()
	m.t.Cleanup(func() {
		a.kill()
		l := launcher.NewLocal(os.Args[0])
		dirs, _ := filepath.Glob(filepath.Join(a.dir, "attempts", "*", "launch"))
		for _, dir := range dirs { // of a test that failed
			if h, err := l.Find(dir); err == nil {
				_ = l.Kill(h)
			}
		}
	})
	return a
}

func (a *agent) start() {
	a.m.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		a.m.t.Fatal(err)
	}
	a.cmd = exec.Command(exe, "agent", a.dir, a.m.server.URL(), a.credential)
	if os.Getenv("TUNEMESH_OBJECTS_LOG") != "" {
		a.cmd.Stderr = os.Stderr
	}
	if err := a.cmd.Start(); err != nil {
		a.m.t.Fatal(err)
	}
}

func (a *agent) kill() {
	a.peak = max(a.peak, peakOf(a.cmd.Process.Pid))
	_ = a.cmd.Process.Kill()
	_ = a.cmd.Wait()
}

// submit starts a job of two stages, the first of which may make a large file.
func (m *mesh) submit(dataset string, seed uint64, large int) string {
	return m.submitWith(nil, dataset, seed, large)
}

func (m *mesh) submitWith(config json.RawMessage, dataset string, seed uint64, large int) string {
	m.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		m.t.Fatal(err)
	}
	stage := func(name string, seed uint64, large int) api.StageSpec {
		return api.StageSpec{Name: name, Command: []string{exe, "stage", fmt.Sprint(seed), fmt.Sprint(large)}, Requires: api.Requirements{CPUCores: 1}, MaxAttempts: 5}
	}
	job, err := m.user.SubmitJob(m.t.Context(), api.JobSpec{Dataset: dataset, Config: config, Pipeline: &api.Pipeline{
		Nodes: []api.StageSpec{stage("first", seed, large), stage("second", seed+1, 0)},
		Edges: []api.Edge{{From: "first", To: "second"}},
	}})
	if err != nil {
		m.t.Fatal(err)
	}
	return job.ID
}

// until asks until it is so; what says what it waits for.
func (m *mesh) until(what *string, limit time.Duration, holds func() bool) {
	m.t.Helper()
	for deadline := time.Now().Add(limit); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			m.t.Fatalf("waited %s in vain until %s", limit, *what)
		}
	}
}

// raw is a client of the real store.
func (m *mesh) raw() *minio.Client {
	m.t.Helper()
	c, err := minio.New(m.store.Endpoint, &minio.Options{Creds: credentials.NewStaticV4(m.store.AccessKey, m.store.SecretKey, ""), BucketLookup: minio.BucketLookupPath,
		Transport: &http.Transport{DisableKeepAlives: true}})
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

// stored reads an object from the real store.
func (m *mesh) stored(a api.Artifact) ([]byte, error) {
	o, err := m.raw().GetObject(m.t.Context(), a.Bucket, a.Key, minio.GetObjectOptions{})
	if err != nil {
		return nil, err
	}
	defer o.Close()
	return io.ReadAll(o)
}

// leftovers are uploads that nobody will finish, and datasets on their way.
func (m *mesh) leftovers() (left []string) {
	for _, bucket := range api.Buckets {
		for u := range m.raw().ListIncompleteUploads(m.t.Context(), bucket, "", true) {
			left = append(left, bucket+"/"+u.Key)
		}
		for o := range m.raw().ListObjects(m.t.Context(), bucket, minio.ListObjectsOptions{Recursive: true}) {
			if strings.HasPrefix(o.Key, "incoming/") {
				left = append(left, bucket+"/"+o.Key)
			}
		}
	}
	return left
}
