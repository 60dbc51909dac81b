package load

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime/pprof"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/controlplane"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
)

// The test binary is the server and its S3 child, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "s3-child":
			os.Exit(artifacts.RunChild(os.Args[2:]))
		case "load-server":
			if err := runServer(os.Args[2:]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		case "load-agent":
			if err := runAgent(os.Args[2], os.Args[3]); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			os.Exit(0)
		}
	}
	os.Exit(m.Run())
}

// runServer is one server until SIGTERM. Arguments: folder, this server's
// address, and for a cluster the addresses of the others.
func runServer(args []string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := raiseFiles(); err != nil {
		return err
	}
	// LOAD_PROFILE=FOLDER leaves each server's CPU profile there.
	if dir := os.Getenv("LOAD_PROFILE"); dir != "" {
		f, err := os.Create(filepath.Join(dir, fmt.Sprintf("cpu-%d.pprof", os.Getpid())))
		if err != nil {
			return err
		}
		defer f.Close()
		if err := pprof.StartCPUProfile(f); err != nil {
			return err
		}
		defer pprof.StopCPUProfile()
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	c := controlplane.Config{
		Dir: args[0], HTTPAddr: args[1], RaftAddr: args[2], GossipAddr: "127.0.0.1:0", Name: filepath.Base(args[0]), PlainHTTP: true,
		S3Child: []string{self, "s3-child"}, Bootstrap: len(args) == 3,
		Models: map[string]controlplane.BundledModel{"tiny": {Files: fstest.MapFS{
			"config.json":       {Data: []byte(`{"architectures":["LlamaForCausalLM"]}`)},
			"model.safetensors": {Data: []byte("not read by the control plane")},
		}}}, DefaultModel: "tiny",
		Log: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	}
	if len(args) > 3 {
		c.Expect, c.Join, c.ClusterSecret = len(args)-2, args[3:], os.Getenv("LOAD_SECRET")
	}
	s, err := controlplane.Open(ctx, c)
	if err != nil {
		return err
	}
	<-ctx.Done()
	return s.Close()
}

// raiseFiles allows as many open files as the system does: each agent is a
// connection or two.
func raiseFiles() error {
	limit := syscall.Rlimit{Cur: 100_000, Max: 100_000}
	if syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
		return nil
	}
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	limit.Cur = limit.Max
	return syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)
}

// server is a server's process.
type server struct {
	dir, url string
	args     []string
	cmd      *exec.Cmd
}

func freeAddr(b testing.TB) string {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// startServer runs one server that is a whole control plane.
func startServer(b testing.TB) *server {
	b.Helper()
	s := launch(b, filepath.Join(b.TempDir(), "s1"), freeAddr(b), freeAddr(b))
	s.await(b)
	return s
}

func launch(b testing.TB, dir string, args ...string) *server {
	b.Helper()
	self, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	s := &server{dir: dir, url: "http://" + args[0], args: args, cmd: exec.Command(self, append([]string{"load-server", dir}, args...)...)}
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(s.stop)
	return s
}

func (s *server) stop() {
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = s.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		_ = s.cmd.Process.Kill()
		<-done
	}
}

func (s *server) await(b testing.TB) {
	b.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		resp, err := http.Get(s.url + "/readyz")
		if err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return
			}
		}
		if time.Now().After(deadline) {
			b.Fatalf("%s is not ready: %v", s.url, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (s *server) get(b testing.TB, path string) string {
	b.Helper()
	resp, err := http.Get(s.url + path)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		b.Fatal(resp.Status, err)
	}
	return string(data)
}

// expiries are the leases that ran out since this server has led.
func (s *server) expiries(b testing.TB) int {
	b.Helper()
	for line := range strings.Lines(s.get(b, "/metrics")) {
		if rest, ok := strings.CutPrefix(line, "lease_expiries_total "); ok {
			n, err := strconv.ParseFloat(strings.TrimSpace(rest), 64)
			if err != nil {
				b.Fatal(err)
			}
			return int(n)
		}
	}
	b.Fatal("the server counts no leases that ran out")
	return 0
}

func (s *server) token(b testing.TB, name string) string {
	b.Helper()
	data, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		b.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// client speaks with a token of its own over connections that it shares.
func (s *server) client(token string, transport http.RoundTripper) *client.Client {
	return client.New(client.Config{Servers: []string{s.url}, Token: token, HTTP: &http.Client{Transport: transport}, UserAgent: "load"})
}

// transport keeps as many connections as there are callers.
func transport() *http.Transport {
	return &http.Transport{MaxIdleConns: 0, MaxIdleConnsPerHost: 50_000, IdleConnTimeout: time.Minute, DialContext: (&net.Dialer{Timeout: 30 * time.Second}).DialContext}
}

// usage is what a process has used.
type usage struct {
	cpu time.Duration
	rss int64 // bytes
}

// used reads /proc: clock ticks are 1/100 s on Linux.
func (s *server) used(b testing.TB) (u usage) {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.cmd.Process.Pid))
	if err != nil {
		b.Skip("the figures are read from /proc")
	}
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	for _, i := range []int{11, 12} { // utime and stime
		ticks, err := strconv.ParseInt(fields[i], 10, 64)
		if err != nil {
			b.Fatal(err)
		}
		u.cpu += time.Duration(ticks) * 10 * time.Millisecond
	}
	pages, err := strconv.ParseInt(fields[21], 10, 64)
	if err != nil {
		b.Fatal(err)
	}
	u.rss = pages * int64(os.Getpagesize())
	return u
}
