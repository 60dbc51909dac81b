package controlplane_test

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"go.uber.org/goleak"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/controlplane"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
)

// The test binary is its own S3 child.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "s3-child" {
		os.Exit(artifacts.RunChild(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

var tinyModel = fstest.MapFS{
	"config.json":       {Data: []byte(`{"architectures":["LlamaForCausalLM"]}`)},
	"model.safetensors": {Data: []byte("not read by the control plane")},
}

func config(t *testing.T, dir string) controlplane.Config {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	raft := l.Addr().String()
	l.Close()
	return controlplane.Config{
		Dir: dir, HTTPAddr: "127.0.0.1:0", RaftAddr: raft, GossipAddr: "127.0.0.1:0", Bootstrap: true, PlainHTTP: true,
		S3Child: []string{self, "s3-child"}, Models: map[string]controlplane.BundledModel{"tiny": {Files: tinyModel, Parameters: 7, License: "mit"}}, DefaultModel: "tiny",
		Log:   slog.New(slog.NewTextHandler(io.Discard, nil)),
		Fatal: func(err error) { t.Errorf("the server wanted to die: %v", err) },
	}
}

func open(t *testing.T, c controlplane.Config) *controlplane.Server {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	s, err := controlplane.Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func user(t *testing.T, s *controlplane.Server) (*client.Client, func()) {
	t.Helper()
	token, err := s.AdminToken()
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{}
	return client.New(client.Config{Servers: []string{s.URL()}, Token: token, HTTP: &http.Client{Transport: transport}}), transport.CloseIdleConnections
}

// A server that founds a mesh has tokens and the base model; started again on
// its folder it has what it had, dataset and jobs included.
func TestAServerKeepsItsMeshOverARestart(t *testing.T) {
	c := config(t, t.TempDir())
	s := open(t, c)
	admin, done := user(t, s)
	models, err := admin.Models(t.Context())
	if err != nil || len(models) != 1 || models[0].Name != "tiny" || models[0].Architecture != "LlamaForCausalLM" || len(models[0].Files) != 2 {
		t.Fatalf("models: %+v %v", models, err)
	}
	data := "text,label\nhello,a\n"
	ds, err := admin.UploadDataset(t.Context(), "x.csv", strings.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	job, err := admin.SubmitJob(t.Context(), api.JobSpec{Dataset: ds.ID})
	if err != nil {
		t.Fatal(err)
	}
	tokenFile, err := os.Stat(s.AdminTokenPath())
	if err != nil || tokenFile.Mode().Perm() != 0o600 {
		t.Errorf("the token's file: %v %v", tokenFile.Mode(), err)
	}
	done()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s = open(t, c)
	defer func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}()
	admin, done = user(t, s)
	defer done()
	again, err := admin.Job(t.Context(), job.ID)
	if err != nil || len(again.Stages) != len(api.BuiltinKinds) || again.Stages[0].State != api.StageReady {
		t.Fatalf("job after the restart: %+v %v", again, err)
	}
	deadline := time.Now().Add(10 * time.Second)
	for !strings.Contains(again.Stages[0].WaitReason, "no node") {
		if time.Now().After(deadline) {
			t.Fatalf("a stage without any node waits because %q", again.Stages[0].WaitReason)
		}
		time.Sleep(50 * time.Millisecond)
		if again, err = admin.Job(t.Context(), job.ID); err != nil {
			t.Fatal(err)
		}
	}
	var events int
	if err := admin.Events(t.Context(), job.ID, 0, false, func(api.Event) error { events++; return nil }); err != nil || events == 0 {
		t.Errorf("events of the job after the restart: %d %v", events, err)
	}
}

func TestABusyPortIsNamed(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := config(t, t.TempDir())
	c.HTTPAddr = l.Addr().String()
	s, err := controlplane.Open(t.Context(), c)
	if err == nil {
		s.Close()
		t.Fatal("opened on a busy port")
	}
	if !strings.Contains(err.Error(), "--http-addr") {
		t.Errorf("the error does not say what to do: %v", err)
	}
}

func TestAServerWithoutATokenIsClosedToStrangers(t *testing.T) {
	s := open(t, config(t, filepath.Join(t.TempDir(), "new")))
	defer s.Close()
	resp, err := http.Get(s.URL() + "/v1/jobs")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if resp.StatusCode != http.StatusUnauthorized || resp.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("a stranger got %d %s", resp.StatusCode, resp.Header.Get("Content-Type"))
	}
}

// /metrics names jobs: on an address that others reach it needs a token that can
// do nothing else, unless the operator says otherwise.
func TestMetricsNeedATokenWhereOthersCanReachThem(t *testing.T) {
	status := func(c controlplane.Config, path string, role api.Role) int {
		t.Helper()
		s := open(t, c)
		defer func() {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}()
		_, port, err := net.SplitHostPort(strings.TrimPrefix(s.URL(), "http://"))
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:"+port+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		if role != "" {
			admin, err := s.AdminToken()
			if err != nil {
				t.Fatal(err)
			}
			cp := client.New(client.Config{Servers: []string{"http://127.0.0.1:" + port}, Token: admin})
			defer cp.Close()
			made, err := cp.CreateToken(t.Context(), api.TokenRequest{Role: role, Name: "prometheus"})
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("Authorization", "Bearer "+made.Token)
		}
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || (resp.StatusCode == http.StatusOK) != strings.Contains(string(body), "raft_leader") && path == "/metrics" {
			t.Errorf("%s: %s and %d bytes (%v)", path, resp.Status, len(body), err)
		}
		return resp.StatusCode
	}
	for what, c := range map[string]struct {
		listen string
		public bool
		role   api.Role
		path   string
		want   int
	}{
		"on loopback":                             {"127.0.0.1:0", false, "", "/metrics", http.StatusOK},
		"on every address":                        {"0.0.0.0:0", false, "", "/metrics", http.StatusUnauthorized},
		"on every address, by its token":          {"0.0.0.0:0", false, api.RoleMetrics, "/metrics", http.StatusOK},
		"on every address, as the operator wants": {"0.0.0.0:0", true, "", "/metrics", http.StatusOK},
		"what can be scraped, by its token":       {"0.0.0.0:0", false, api.RoleMetrics, "/v1/sd/prometheus", http.StatusOK},
		"jobs, by its token":                      {"0.0.0.0:0", false, api.RoleMetrics, "/v1/jobs", http.StatusForbidden},
	} {
		t.Run(what, func(t *testing.T) {
			config := config(t, t.TempDir())
			config.HTTPAddr, config.PublicMetrics = c.listen, c.public
			if got := status(config, c.path, c.role); got != c.want {
				t.Errorf("%s as %q: %d, want %d", c.path, c.role, got, c.want)
			}
		})
	}
}
