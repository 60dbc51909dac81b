package cli_test

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli"
)

// server answers like a control plane, as far as the real client needs it, and
// wants the token "secret".
func server(t *testing.T, m *fakeMesh) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	answer := func(w http.ResponseWriter, v any, err error) {
		if err != nil {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(404)
			_ = json.NewEncoder(w).Encode(notFound)
			return
		}
		_ = json.NewEncoder(w).Encode(v)
	}
	list := func(w http.ResponseWriter, v any) { answer(w, map[string]any{"items": v}, nil) }
	mux.HandleFunc("GET /readyz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v1/version", func(w http.ResponseWriter, r *http.Request) { v, err := m.Version(r.Context()); answer(w, v, err) })
	mux.HandleFunc("GET /v1/jobs", func(w http.ResponseWriter, r *http.Request) { v, _ := m.Jobs(r.Context()); list(w, v) })
	mux.HandleFunc("GET /v1/jobs/{id}", func(w http.ResponseWriter, r *http.Request) {
		v, err := m.Job(r.Context(), r.PathValue("id"))
		answer(w, v, err)
	})
	mux.HandleFunc("POST /v1/jobs", func(w http.ResponseWriter, r *http.Request) {
		var s api.JobSpec
		_ = json.NewDecoder(r.Body).Decode(&s)
		if s.Priority == 13 {
			w.WriteHeader(422)
			_ = json.NewEncoder(w).Encode(api.Problem{Type: api.ProblemInvalid, Title: "the job is not valid", Errors: []api.FieldError{{Field: "config.training.rank", Message: "is 0, want 1 to 1024"}}, Hint: "docs/config.md lists the fields"})
			return
		}
		v, err := m.SubmitJob(r.Context(), s)
		answer(w, v, err)
	})
	mux.HandleFunc("POST /v1/datasets", func(w http.ResponseWriter, r *http.Request) {
		v, err := m.UploadDataset(r.Context(), r.URL.Query().Get("name"), r.Body, r.ContentLength)
		answer(w, v, err)
	})
	var broken atomic.Bool
	mux.HandleFunc("GET /v1/jobs/{id}/events", func(w http.ResponseWriter, r *http.Request) {
		var after uint64
		_, _ = fmt.Sscan(r.Header.Get("Last-Event-ID"), &after)
		w.Header().Set("Content-Type", "text/event-stream")
		for _, e := range m.events {
			if e.Seq <= after {
				continue
			}
			data, _ := json.Marshal(e)
			fmt.Fprintf(w, "id: %d\nevent: event\ndata: %s\n\n", e.Seq, data)
			if e.Seq == 7 && broken.CompareAndSwap(false, true) {
				return // the connection breaks once in the middle
			}
		}
		fmt.Fprint(w, "event: end\ndata: {}\n\n")
	})
	var base string
	mux.HandleFunc("GET /v1/jobs/{id}/artifacts", func(w http.ResponseWriter, r *http.Request) {
		all, _ := m.Artifacts(r.Context(), "")
		for i, a := range all {
			sum := sha256.Sum256([]byte(m.bytes[a.Name]))
			all[i].URL, all[i].Size, all[i].SHA256 = base+"/store/"+a.Name, int64(len(m.bytes[a.Name])), hex.EncodeToString(sum[:])
		}
		list(w, all)
	})
	mux.HandleFunc("GET /store/{name...}", func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, m.bytes[r.PathValue("name")])
	})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		open := r.URL.Path == "/readyz" || r.URL.Path == "/v1/version" || strings.HasPrefix(r.URL.Path, "/store/")
		if !open && r.Header.Get("Authorization") != "Bearer secret" {
			w.WriteHeader(401)
			_ = json.NewEncoder(w).Encode(api.Problem{Title: "unauthorized", Type: api.ProblemUnauthorized})
			return
		}
		mux.ServeHTTP(w, r)
	}))
	base = s.URL
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
	})
	return s
}

// real is a command line with the real client.
func real(t *testing.T, env map[string]string) cmdline { return cmdline{t: t, env: env} }

func TestTheRealClientFromUploadToSummary(t *testing.T) {
	m := demoMesh()
	s := server(t, m)
	env := map[string]string{"TUNEMESH_SERVER": s.URL, "TUNEMESH_TOKEN": "secret"}
	r := real(t, env).run("job", "submit", "--dataset", file(t, "t.csv", "text,label\na,b\n"), "--watch")
	if r.code != 0 || len(m.uploads) != 1 || m.submitted[0].Dataset != "ds_00000000000000aa" || m.submitted[0].ID == "" {
		t.Fatalf("exit code %d: %s", r.code, r.err)
	}
	for _, want := range []string{"120/120 steps", "succeeded after", "beats the base model"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("lacks %q:\n%s", want, r.out)
		}
	}
	if r := real(t, env).run("job", "logs", jobID, "--json"); strings.Count(r.out, "\n") != len(m.events) {
		t.Errorf("%d lines of %d events after a broken connection", strings.Count(r.out, "\n"), len(m.events))
	}
	path := filepath.Join(t.TempDir(), "m.json")
	if r := real(t, env).run("artifact", "get", jobID, "metrics.json", "-o", path); r.code != 0 {
		t.Errorf("artifact get: exit code %d: %s", r.code, r.err)
	}
	if data, _ := os.ReadFile(path); string(data) != m.bytes["metrics.json"] {
		t.Errorf("got %q", data)
	}
}

func TestProblemsOfTheServerArePrintedWithTheirFields(t *testing.T) {
	s := server(t, demoMesh())
	env := map[string]string{"TUNEMESH_SERVER": s.URL, "TUNEMESH_TOKEN": "secret"}
	r := real(t, env).run("job", "submit", "--dataset", someDataset, "--priority", "13")
	want := "Error: the job is not valid\n  config.training.rank: is 0, want 1 to 1024\nHint: docs/config.md lists the fields\n"
	if r.code != cli.ExitRefused || r.err != want {
		t.Errorf("exit code %d, got\n%swant\n%s", r.code, r.err, want)
	}
	r = real(t, map[string]string{"TUNEMESH_SERVER": s.URL}).run("job", "list")
	if r.code != cli.ExitRefused || !strings.Contains(r.err, "tunemesh login") {
		t.Errorf("without a token: exit code %d, %q", r.code, r.err)
	}
}

func TestNobodyAnswers(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	l.Close()
	for name, c := range map[string]struct {
		env  map[string]string
		args []string
		code int
		want string
	}{
		"nothing known":   {map[string]string{}, []string{"job", "list"}, cli.ExitUnreachable, "tunemesh dev"},
		"nobody there":    {map[string]string{"TUNEMESH_SERVER": url}, []string{"job", "list"}, cli.ExitUnreachable, "no server answers at " + url},
		"by flag":         {map[string]string{}, []string{"node", "list", "--server", url + "," + url}, cli.ExitUnreachable, "no server answers at"},
		"no address":      {map[string]string{}, []string{"job", "list", "--server", "localhost:8440"}, cli.ExitUsage, "http://HOST:PORT"},
		"no such host":    {map[string]string{}, []string{"job", "list", "--server", "http://mesh.invalid"}, cli.ExitUnreachable, "mesh.invalid"},
		"version is fine": {map[string]string{"TUNEMESH_SERVER": url}, []string{"version"}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := real(t, c.env).run(c.args...)
			said := strings.Join(strings.Fields(r.err), " ")
			if r.code != c.code || !strings.Contains(said, c.want) {
				t.Errorf("exit code %d, %q; want %d and %q", r.code, said, c.code, c.want)
			}
			for _, jargon := range []string{"dial tcp", "connection refused", "GET /", "Get \""} {
				if strings.Contains(said, jargon) {
					t.Errorf("%q in %q", jargon, said)
				}
			}
		})
	}
}

func TestASecondServerIsAsked(t *testing.T) {
	s := server(t, demoMesh())
	l, _ := net.Listen("tcp", "127.0.0.1:0")
	dead := "http://" + l.Addr().String()
	l.Close()
	r := real(t, map[string]string{"TUNEMESH_SERVER": dead + "," + s.URL, "TUNEMESH_TOKEN": "secret"}).run("job", "list")
	if r.code != 0 || !strings.Contains(r.out, jobID) {
		t.Errorf("exit code %d: %s", r.code, r.err)
	}
}

func TestLoginIsRememberedForItsServerOnly(t *testing.T) {
	s, other := server(t, demoMesh()), server(t, demoMesh())
	dir := t.TempDir()
	env := map[string]string{"XDG_CONFIG_HOME": dir}
	l := real(t, env)
	l.stdin = strings.NewReader("wrong\n")
	if r := l.run("login", s.URL); r.code != cli.ExitRefused {
		t.Errorf("a wrong token: exit code %d, %s", r.code, r.err)
	}
	if got := tree(t, dir); got != "" {
		t.Errorf("a token that does not work was kept: %s", got)
	}
	l.stdin = strings.NewReader("secret\n")
	if r := l.run("login", s.URL); r.code != 0 {
		t.Fatalf("login: exit code %d, %s", r.code, r.err)
	}
	path := filepath.Join(dir, "tunemesh", "context.json")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the context file: %v, %v", info.Mode(), err)
	}
	if r := l.run("job", "list"); r.code != 0 {
		t.Errorf("job list after login: exit code %d, %s", r.code, r.err)
	}
	if r := l.run("job", "list", "--server", other.URL); r.code != cli.ExitRefused {
		t.Errorf("the token was sent to another server: exit code %d", r.code)
	}
	if r := l.run("job", "list", "--server", other.URL, "--token", "secret"); r.code != 0 {
		t.Errorf("with its own token: exit code %d, %s", r.code, r.err)
	}
}

func TestContextFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a", "b", "context.json")
	if c, err := cli.LoadContext(path); err != nil || c != (cli.Context{}) {
		t.Errorf("no file: %v, %v", c, err)
	}
	want := cli.Context{Server: "http://127.0.0.1:7700", Token: "secret"}
	if err := cli.SaveContext(path, want); err != nil {
		t.Fatal(err)
	}
	if got, err := cli.LoadContext(path); err != nil || got != want {
		t.Errorf("got %v, %v", got, err)
	}
	if got := tree(t, filepath.Dir(path)); got != "context.json" {
		t.Errorf("left behind: %s", got)
	}
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := cli.LoadContext(path); err == nil || !strings.Contains(err.Error(), "tunemesh login") {
		t.Errorf("a damaged file: %v", err)
	}
	env := map[string]string{"HOME": "/home/x", "XDG_CONFIG_HOME": "relative"}
	if got, _ := cli.ContextPath(func(k string) string { return env[k] }); got != "/home/x/.config/tunemesh/context.json" {
		t.Errorf("path is %s", got)
	}
}

func TestCompletion(t *testing.T) {
	s := server(t, demoMesh())
	env := map[string]string{"TUNEMESH_SERVER": s.URL, "TUNEMESH_TOKEN": "secret"}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"job", "watch", "01JDCK3"}, jobID + "\tsucceeded support tickets\n"},
		{[]string{"job", "resume", ""}, failedID + "\tfailed\n"},
		{[]string{"job", "submit", "--task", ""}, "classification\n"},
		{[]string{"job", "submit", "--set", "training.ra"}, "training.rank=\n"},
		{[]string{"artifact", "get", jobID, "met"}, "metrics.json\tevaluation 18 B\n"},
		{[]string{"job", "logs", jobID, "--level", ""}, "error\n"},
	} {
		r := real(t, env).run(append([]string{"__complete"}, c.args...)...)
		if !strings.Contains(r.out, c.want) {
			t.Errorf("%v: got %q, want %q", c.args, r.out, c.want)
		}
	}
	if r := real(t, map[string]string{}).run("__complete", "job", "watch", ""); strings.Contains(r.out, "Error") || r.code != 0 {
		t.Errorf("without a server: %q", r.out)
	}
}
