package ollama

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Server is an Ollama server that a test has started.
type Server struct {
	program, url string
	env          []string
}

// Start starts a server, or skips the test: it wants the program and some seconds.
func Start(t testing.TB) *Server {
	t.Helper()
	if os.Getenv("TUNEMESH_OLLAMA") != "1" {
		t.Skip("TUNEMESH_OLLAMA=1 asks an Ollama server; left out of the fast suite because its program has to be there (make test-ollama builds it)")
	}
	program := find()
	if program == "" {
		t.Skip("there is no ollama: not in TUNEMESH_OLLAMA_BIN, not in PATH, not in .cache/ollama/bin (test/ollama/build.sh makes it)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	l.Close() // the server cannot take a listener over: it gets the number
	home := t.TempDir()
	s := &Server{program: program, url: "http://" + address}
	s.env = append(os.Environ(), "OLLAMA_HOST="+address, "OLLAMA_MODELS="+filepath.Join(home, "models"), "HOME="+home, "OLLAMA_KEEP_ALIVE=10s", "OLLAMA_KV_CACHE_TYPE=f16")
	var said bytes.Buffer
	cmd := exec.Command(program, "serve")
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env, &said, &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		done := make(chan struct{})
		go func() { _ = cmd.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(20 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
		if t.Failed() {
			text := said.Bytes()
			t.Logf("the server said last:\n%s", text[max(0, len(text)-4000):])
		}
	})
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if r, err := http.Get(s.url + "/api/version"); err == nil {
			r.Body.Close()
			return s
		}
		if time.Now().After(deadline) {
			t.Fatal("the server does not answer after 20 s")
		}
	}
}

func find() string {
	if named := os.Getenv("TUNEMESH_OLLAMA_BIN"); named != "" {
		return named
	}
	if path, err := exec.LookPath("ollama"); err == nil {
		return path
	}
	dir, err := os.Getwd()
	if err != nil {
		return ""
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil || dir == filepath.Dir(dir) {
			break
		}
	}
	built := filepath.Join(dir, ".cache", "ollama", "bin", "ollama")
	if _, err := os.Stat(built); err != nil {
		return ""
	}
	return built
}

// Create runs `ollama create` as a user would, in the Modelfile's folder.
func (s *Server) Create(t testing.TB, name, modelfile string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, s.program, "create", name, "-f", filepath.Base(modelfile))
	cmd.Dir, cmd.Env = filepath.Dir(modelfile), s.env
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("ollama create %s: %v: %s", name, err, out)
	}
}

// Call posts a request and decodes the answer, which is not streamed.
func (s *Server) Call(t testing.TB, path string, request map[string]any, answer any) {
	t.Helper()
	if err := s.call(path, request, answer); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) call(path string, request map[string]any, answer any) error {
	request["stream"] = false
	body, err := json.Marshal(request)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: 3 * time.Minute}
	r, err := client.Post(s.url+path, "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer r.Body.Close()
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return err
	}
	if r.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %s", path, r.Status, data)
	}
	return json.Unmarshal(data, answer)
}
