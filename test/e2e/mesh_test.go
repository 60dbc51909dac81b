package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
)

// binary is the built program under test.
func binary(t testing.TB) string {
	t.Helper()
	if os.Getenv("TUNEMESH_E2E") == "" {
		t.Skip("runs whole meshes for minutes: set TUNEMESH_E2E=1, or use make test-e2e")
	}
	path := os.Getenv("TUNEMESH_E2E_BINARY") // another build than that of make
	if path == "" {
		path = "../../bin/tunemesh"
	}
	path, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("no binary to test: run make build first (%v)", err)
	}
	return path
}

// mesh is a `tunemesh dev` on a data folder of its own. Its processes carry a
// mark in their environment, so that all of them can be found and killed.
type mesh struct {
	t      testing.TB
	dir    string
	addr   string
	raft   string
	mark   string
	cmd    *exec.Cmd
	exited chan error
	log    *lockedBuffer
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// freeAddr finds a loopback address that nobody listens on.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func newMesh(t testing.TB) *mesh {
	t.Helper()
	dir := t.TempDir()
	m := &mesh{t: t, dir: dir, addr: freeAddr(t), raft: freeAddr(t), mark: "TUNEMESH_E2E_MARK=" + filepath.Base(dir) + fmt.Sprint(time.Now().UnixNano())}
	t.Cleanup(func() {
		m.stop()
		if t.Failed() {
			t.Logf("log of the mesh:\n%s", tail(m.log.String(), 12000))
		}
		if left := m.processes(); len(left) > 0 {
			t.Errorf("still running after the mesh was stopped: %v", describe(left))
			m.killAll()
		}
	})
	m.start()
	return m
}

func tail(s string, n int) string {
	if len(s) > n {
		return "..." + s[len(s)-n:]
	}
	return s
}

// start runs `tunemesh dev` and waits until it is ready.
func (m *mesh) start() {
	m.t.Helper()
	m.log = &lockedBuffer{}
	m.cmd = exec.Command(binary(m.t), "dev", "--data-dir", m.dir, "--http-addr", m.addr, "--raft-addr", m.raft)
	m.cmd.Env = append(os.Environ(), m.mark, "XDG_CONFIG_HOME="+filepath.Join(m.dir, "config"))
	m.cmd.Stdout, m.cmd.Stderr = m.log, m.log
	if err := m.cmd.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.exited = make(chan error, 1)
	go func(cmd *exec.Cmd, exited chan<- error) { exited <- cmd.Wait() }(m.cmd, m.exited)
	deadline := time.Now().Add(60 * time.Second)
	for {
		select {
		case err := <-m.exited:
			m.t.Fatalf("the mesh ended at its start: %v\n%s", err, m.log.String())
		default:
		}
		ctx, cancel := context.WithTimeout(m.t.Context(), time.Second)
		err := m.client().Ready(ctx)
		cancel()
		// What it prints last comes when its node has joined and this user is
		// logged in.
		if err == nil && strings.Contains(m.log.String(), "Ctrl-C ends the mesh") {
			return
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("not up after 60 s: %v\n%s", err, m.log.String())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// stop asks the mesh to end, as Ctrl-C does, and waits.
func (m *mesh) stop() {
	if m.cmd == nil {
		return
	}
	_ = m.cmd.Process.Signal(os.Interrupt)
	select {
	case <-m.exited:
	case <-time.After(60 * time.Second):
		m.t.Error("the mesh did not end within 60 s of SIGINT")
		m.killAll()
		<-m.exited
	}
	m.cmd = nil
}

// killAll sends SIGKILL to every process of the mesh: control plane with agent,
// object store, shims, trainers.
func (m *mesh) killAll() int {
	pids := m.processes()
	for _, pid := range pids {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return len(pids)
}

// crash kills everything at once and waits until it is gone.
func (m *mesh) crash() {
	m.t.Helper()
	killed := m.killAll()
	<-m.exited
	m.cmd = nil
	deadline := time.Now().Add(10 * time.Second)
	for len(m.processes()) > 0 {
		if time.Now().After(deadline) {
			m.t.Fatalf("processes survive SIGKILL: %v", describe(m.processes()))
		}
		m.killAll()
		time.Sleep(20 * time.Millisecond)
	}
	m.t.Logf("killed %d processes", killed)
}

// processes lists the pids that belong to the mesh: those whose environment
// carries its mark, and the stages, which see a clean environment but work in
// its folder.
func (m *mesh) processes() []int {
	if m.dir == "" || m.mark == "" {
		m.t.Fatal("a mesh without folder and mark would take every process of this machine for its own")
	}
	entries, _ := os.ReadDir("/proc")
	var pids []int
	for _, e := range entries {
		var pid int
		if _, err := fmt.Sscan(e.Name(), &pid); err != nil || pid == os.Getpid() {
			continue
		}
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		line, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if err == nil && (bytes.Contains(env, []byte(m.mark)) || bytes.Contains(env, []byte(m.dir+"/")) || bytes.Contains(line, []byte(m.dir+"/"))) {
			pids = append(pids, pid)
		}
	}
	return pids
}

func describe(pids []int) []string {
	var out []string
	for _, pid := range pids {
		line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		out = append(out, fmt.Sprintf("%d %s", pid, strings.ReplaceAll(string(line), "\x00", " ")))
	}
	return out
}

// token is the administrator's token that the mesh wrote at its first start.
func (m *mesh) token() string {
	data, err := os.ReadFile(filepath.Join(m.dir, "controlplane", "admin.token"))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(data))
}

func (m *mesh) client() *client.Client {
	return client.New(client.Config{Servers: []string{"http://" + m.addr}, Token: m.token(), UserAgent: "e2e"})
}

// cli runs a client verb against the mesh and returns its standard output.
func (m *mesh) cli(args ...string) (string, error) {
	cmd := exec.CommandContext(m.t.Context(), binary(m.t), args...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(m.dir, "config"), "TUNEMESH_SERVER=http://"+m.addr, "TUNEMESH_TOKEN="+m.token())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("tunemesh %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
	}
	return string(out), err
}

// upload stores a file as a dataset.
func (m *mesh) upload(name string, data []byte) api.Dataset {
	m.t.Helper()
	d, err := m.client().UploadDataset(m.t.Context(), name, bytes.NewReader(data), int64(len(data)))
	if err != nil {
		m.t.Fatalf("upload %s: %v", name, err)
	}
	return d
}

func (m *mesh) submit(spec api.JobSpec) api.JobDetail {
	m.t.Helper()
	job, err := m.client().SubmitJob(m.t.Context(), spec)
	if err != nil {
		m.t.Fatalf("submit: %v", err)
	}
	return job
}

func (m *mesh) job(id string) api.JobDetail {
	m.t.Helper()
	job, err := m.client().Job(m.t.Context(), id)
	if err != nil {
		m.t.Fatalf("show job %s: %v", id, err)
	}
	return job
}

// await returns the job once it is terminal.
func (m *mesh) await(id string, limit time.Duration) api.JobDetail {
	m.t.Helper()
	deadline := time.Now().Add(limit)
	for {
		job := m.job(id)
		if job.State.Terminal() {
			return job
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("job %s is still %s after %s:\n%s", id, job.State, limit, pretty(job.Stages))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// events returns all events of a job so far.
func (m *mesh) events(id string) []api.Event {
	m.t.Helper()
	var all []api.Event
	if err := m.client().Events(m.t.Context(), id, 0, false, func(e api.Event) error {
		all = append(all, e)
		return nil
	}); err != nil {
		m.t.Fatalf("events of %s: %v", id, err)
	}
	for i, e := range all {
		if e.Seq != uint64(i+1) {
			m.t.Fatalf("event %d of job %s has number %d: a hole or a repeat", i+1, id, e.Seq)
		}
	}
	return all
}

func pretty(v any) string {
	data, _ := json.MarshalIndent(v, "", "  ")
	return tail(string(data), 6000)
}

func stage(t testing.TB, job api.JobDetail, name string) api.Stage {
	t.Helper()
	for _, s := range job.Stages {
		if s.Name == name {
			return s
		}
	}
	t.Fatalf("job has no stage %s", name)
	return api.Stage{}
}
