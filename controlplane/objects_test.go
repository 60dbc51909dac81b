package controlplane_test

import (
	"errors"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/controlplane"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
)

// startStore starts a real object store of its own in a folder; in the same
// folder it has the same address and keys.
func startStore(t *testing.T, dir string) *artifacts.Embedded {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	e, err := artifacts.StartEmbedded(t.Context(), artifacts.EmbeddedConfig{Dir: dir, Command: []string{self, "s3-child"}, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// await asks until it is so.
func await(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !holds(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain until %s", what)
		}
	}
}

// waits is why the job's first stage waits.
func waits(t *testing.T, c *client.Client, job string) string {
	t.Helper()
	d, err := c.Job(t.Context(), job)
	if err != nil {
		t.Fatal(err)
	}
	return d.Stages[0].WaitReason
}

func TestAServerStartsWithoutItsObjectStoreAndIsWholeWhenItComes(t *testing.T) {
	dir, storeDir := t.TempDir(), t.TempDir()
	store := startStore(t, storeDir)
	c := config(t, dir)
	c.S3 = store.Config()
	first := open(t, c)
	mesh, done := user(t, first)
	d, err := mesh.UploadDataset(t.Context(), "t.csv", strings.NewReader("text,label\na,b\n"), -1)
	if err != nil {
		t.Fatal(err)
	}
	job, err := mesh.SubmitJob(t.Context(), api.JobSpec{Dataset: d.ID, Pipeline: &api.Pipeline{Nodes: []api.StageSpec{{Name: "own", Command: []string{"true"}}}}})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the job waits for a node", func() bool { return strings.Contains(waits(t, mesh, job.ID), "node") })
	done()
	if err := errors.Join(first.Close(), store.Close()); err != nil {
		t.Fatal(err)
	}

	// A second model is new to the mesh: the store has to take it when it comes.
	c.Models["second"] = controlplane.BundledModel{Files: fstest.MapFS{"config.json": {Data: []byte(`{"architectures":["Qwen3ForCausalLM"]}`)}}}
	second := open(t, c)
	defer second.Close()
	mesh, done = user(t, second)
	defer done()
	var problem *api.Problem
	if err := mesh.Ready(t.Context()); !errors.As(err, &problem) || problem.Status != http.StatusServiceUnavailable || !strings.Contains(problem.Detail, "object store") {
		t.Errorf("without its store the server says %v", err)
	}
	if _, err := mesh.CreateToken(t.Context(), api.TokenRequest{Name: "one", Role: api.RoleUser}); err != nil {
		t.Errorf("a write that needs no bytes: %v", err)
	}
	await(t, "the job waits for the store", func() bool { return strings.Contains(waits(t, mesh, job.ID), "object store") })

	store = startStore(t, storeDir)
	defer store.Close()
	await(t, "the server is whole", func() bool { return mesh.Ready(t.Context()) == nil })
	if _, err := mesh.Model(t.Context(), "second"); err != nil {
		t.Errorf("the base model did not come: %v", err)
	}
	await(t, "the job waits for a node again", func() bool { return !strings.Contains(waits(t, mesh, job.ID), "object store") })

	// And while it runs.
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, "the job waits for the store", func() bool { return strings.Contains(waits(t, mesh, job.ID), "object store") })
	store = startStore(t, storeDir)
	defer store.Close()
	await(t, "the job waits for a node again", func() bool { return !strings.Contains(waits(t, mesh, job.ID), "object store") })
}

func ready(t *testing.T, s *controlplane.Server) error {
	c, done := user(t, s)
	defer done()
	return c.Ready(t.Context())
}

func TestAStoreThatRefusesEndsTheStart(t *testing.T) {
	store := startStore(t, t.TempDir())
	defer store.Close()
	for name, spoil := range map[string]func(*artifacts.Config){
		"secret": func(c *artifacts.Config) { c.SecretKey += "x" },
		"key":    func(c *artifacts.Config) { c.AccessKey += "x" },
	} {
		c := config(t, t.TempDir())
		c.S3 = store.Config()
		spoil(&c.S3)
		s, err := controlplane.Open(t.Context(), c)
		if err == nil {
			t.Errorf("wrong %s: the server starts: %v", name, ready(t, s))
			_ = s.Close()
			continue
		}
		if !strings.Contains(err.Error(), "refuses") || !strings.Contains(err.Error(), "keys") {
			t.Errorf("wrong %s: %v", name, err)
		}
	}
}
