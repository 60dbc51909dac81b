package hub_test

import (
	"context"
	"errors"
	"io"
	"log"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/trainer/importer/hub"
)

func quiet() *log.Logger { return log.New(io.Discard, "", 0) }

// checked fetches source with a check.
func (s *server) checked(dir, source string, check func(path string, weights int64) error) (hub.Fetched, error) {
	s.t.Helper()
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c := client(s.t, hub.Config{Endpoint: s.URL, Client: &http.Client{Transport: transport}})
	src, err := hub.Parse(source)
	if err != nil {
		s.t.Fatal(err)
	}
	return c.Fetch(context.Background(), src, dir, hub.Hooks{Check: check})
}

var errRefused = errors.New("no such architecture")

// What the small files tell is asked before a byte of the weights is, and nothing is left of
// a model that is refused.
func TestAModelIsCheckedBeforeItsWeights(t *testing.T) {
	for _, sharded := range []bool{false, true} {
		s, dir := newServer(t), t.TempDir()
		if sharded {
			s.files["model-1.safetensors"] = s.files["model.safetensors"]
			delete(s.files, "model.safetensors")
			s.files["model.safetensors.index.json"] = []byte(`{"weight_map":{"x":"model-1.safetensors"}}`)
		}
		seen := func() (names []string) {
			entries, err := os.ReadDir(filepath.Join(dir, "org--model", head))
			if err != nil {
				t.Error(err)
			}
			for _, e := range entries {
				names = append(names, e.Name())
			}
			return names
		}
		_, err := s.checked(dir, "hf:org/model", func(path string, weights int64) error {
			names := seen()
			if path != filepath.Join(dir, "org--model", head) || !slices.Contains(names, "config.json") || !slices.Contains(names, "tokenizer.json") || slices.Contains(names, "model.safetensors.index.json") != sharded || weights != 300_000 {
				t.Errorf("checked %s with %q, %d bytes to come", path, names, weights)
			}
			return errRefused
		})
		if !errors.Is(err, errRefused) || !strings.Contains(err.Error(), "fetch hf:org/model@main: no such architecture") {
			t.Errorf("%v", err)
		}
		for _, r := range s.requests {
			if strings.HasPrefix(r, "GET ") && strings.HasSuffix(r, ".safetensors") {
				t.Errorf("fetched all the same: %s", r)
			}
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
		if _, err := s.checked(dir, "hf:org/model", func(string, int64) error { return nil }); err != nil {
			t.Error(err)
		}
	}
}

// Of a GGUF file the beginning is looked at.
func TestAGGUFFileIsCheckedByItsBeginning(t *testing.T) {
	const mib = 1 << 20
	for _, ranges := range []bool{true, false} {
		s, dir := newServer(t), t.TempDir()
		big := make([]byte, 3*mib)
		copy(big, "GGUF and more")
		s.files["m.gguf"] = big
		s.spoil = func(w http.ResponseWriter, r *http.Request, _ int) bool {
			if ranges || !strings.HasSuffix(r.URL.Path, "/m.gguf") {
				return false
			}
			_, _ = w.Write(big)
			return true
		}
		_, err := s.checked(dir, "hf:org/model/m.gguf", func(path string, weights int64) error {
			data, err := os.ReadFile(path)
			if err != nil || len(data) != mib || !strings.HasPrefix(string(data), "GGUF") || ranges && weights != 2*mib {
				t.Errorf("checked %d bytes, %d to come, %v", len(data), weights, err)
			}
			return errRefused
		})
		if !errors.Is(err, errRefused) {
			t.Errorf("%v", err)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left behind: %v, %v", left, err)
		}
		got, err := s.checked(dir, "hf:org/model/m.gguf", func(string, int64) error { return nil })
		if err != nil {
			t.Fatal(err)
		}
		if data, err := os.ReadFile(got.Path); err != nil || len(data) != len(big) {
			t.Errorf("%d bytes, %v", len(data), err)
		}
		if ranges && !slices.Contains(s.requests, "GET /org/model/resolve/"+head+"/m.gguf bytes=0-1048575") {
			t.Errorf("%q", s.requests)
		}
	}
}

// A refusal that comes before anything was fetched leaves no folder.
func TestNoEmptyFolderIsLeft(t *testing.T) {
	s, dir := newServer(t), t.TempDir()
	delete(s.files, "config.json")
	if _, _, err := s.fetch(dir, "hf:org/model", ""); err == nil {
		t.Error("taken")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}
