package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/fstest"

	"github.com/tunemesh/tunemesh/cli"
	"github.com/tunemesh/tunemesh/models"
	"github.com/tunemesh/tunemesh/trainer/importer/hub"
)

// mini is the builtin model with a changed config.json.
func mini(t *testing.T, change map[string]any) fstest.MapFS {
	t.Helper()
	files := fstest.MapFS{}
	err := fs.WalkDir(models.Mini(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(models.Mini(), name)
		files[name] = &fstest.MapFile{Data: data}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(files["config.json"].Data, &config); err != nil {
		t.Fatal(err)
	}
	for key, value := range change {
		config[key] = value
	}
	if files["config.json"].Data, err = json.Marshal(config); err != nil {
		t.Fatal(err)
	}
	return files
}

// listening counts a hub's answers for weights.
func listening(t *testing.T, files fs.FS) (endpoint string, weights func() int) {
	t.Helper()
	h := hubOf(t, files)
	var mu sync.Mutex
	n := 0
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, ".safetensors") {
			mu.Lock()
			n++
			mu.Unlock()
		}
		h.Config.Handler.ServeHTTP(w, r)
	}))
	t.Cleanup(front.Close)
	return front.URL, func() int { mu.Lock(); defer mu.Unlock(); return n }
}

func pullFails(t *testing.T, source, cache string) error {
	t.Helper()
	out := filepath.Join(t.TempDir(), "out")
	_, err := importModel(context.Background(), cli.ImportRequest{Source: source, Name: source, OutDir: out, CacheDir: cache, Progress: func(string, int64, int64) {}, Notice: func(string) {}})
	if err == nil {
		t.Fatal("taken")
	}
	for _, path := range []string{cache, out} {
		if strings.Contains(err.Error(), path) {
			t.Errorf("%v names %s", err, path)
		}
	}
	if left, readErr := os.ReadDir(cache); readErr != nil || len(left) > 0 {
		t.Errorf("%v, and %v is left in the cache, %v", err, left, readErr)
	}
	return err
}

// What config.json, the tokenizer and the sizes tell costs no download, and what only the weights tell
// leaves none behind.
func TestAModelThatIsRefusedLeavesNothing(t *testing.T) {
	for want, c := range map[string]struct {
		change  map[string]any
		fetched bool
	}{
		"fetch hf:org/mini@main: model: architectures is [Phi3ForCausalLM]":        {map[string]any{"architectures": []string{"Phi3ForCausalLM"}}, false},
		"fetch hf:org/mini@main: the tokenizer has":                                {map[string]any{"vocab_size": 20}, false},
		"fetch hf:org/mini@main: the weights are":                                  {map[string]any{"num_hidden_layers": 99}, false},
		"import hf:org/mini: tensor model.layers.0.mlp.gate_proj.weight has shape": {map[string]any{"intermediate_size": 64}, true},
	} {
		endpoint, weights := listening(t, mini(t, c.change))
		t.Setenv("HF_ENDPOINT", endpoint)
		if err := pullFails(t, "hf:org/mini", t.TempDir()); !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if n := weights(); (n > 0) != c.fetched {
			t.Errorf("%s: the weights were asked for %d times", want, n)
		}
	}
}

func TestAnEndpointThatIsNoAddress(t *testing.T) {
	t.Setenv("HF_ENDPOINT", "localhost:8080")
	if err := pullFails(t, "hf:org/mini", t.TempDir()); !strings.Contains(err.Error(), `HF_ENDPOINT is "localhost:8080"`) {
		t.Errorf("%v", err)
	}
}

// A hub that is away is told apart from a wrong command, and a full disk names the flag that
// helps.
func TestAHubsFaultsHaveTheirExitCodes(t *testing.T) {
	full := fmt.Errorf("fetch hf:org/mini@main: %w", &fs.PathError{Op: "write", Path: "/cache/model.safetensors.part", Err: syscall.ENOSPC})
	for _, c := range []struct {
		err  error
		code int
		want string
	}{
		{&hub.UnavailableError{Err: errors.New("away"), Tries: 6}, cli.ExitUnreachable, "away (after 6 tries); try again later"},
		{full, cli.ExitInternal, "make room in /cache, or name a folder on another disk with --cache-dir"},
	} {
		var out bytes.Buffer
		code := cli.Report(&out, hubFault(c.err, "/cache"))
		if said := strings.Join(strings.Fields(out.String()), " "); code != c.code || !strings.Contains(said, c.want) {
			t.Errorf("%d, %q, want %d, %q", code, said, c.code, c.want)
		}
	}
	if err := hubFault(nil, ""); err != nil {
		t.Error(err)
	}
}
