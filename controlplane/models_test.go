package controlplane_test

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/controlplane"
)

// importable is a model as a client announces it: its weights say what it is.
func importable(weights string) (content map[string]string, m api.ModelManifest) {
	content = map[string]string{"config.json": `{"architectures":["LlamaForCausalLM"]}`, "tokenizer.json": "[]", "model.safetensors": weights}
	m = api.ModelManifest{Architecture: "LlamaForCausalLM", Parameters: 3, License: "mit", Replace: true}
	for name, data := range content {
		sum := sha256.Sum256([]byte(data))
		m.Files = append(m.Files, api.ModelFile{Name: name, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])})
	}
	return content, m
}

// lacks are the names of a model's files that the mesh has not.
func lacks(t *testing.T, c *client.Client, weights string) (names string) {
	t.Helper()
	_, m := importable(weights)
	places, err := c.RequestModelUploads(t.Context(), "asked", m.Files)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range places {
		names += p.Name + " "
	}
	return strings.TrimSpace(names)
}

// send brings what the mesh lacks of a model.
func send(t *testing.T, c *client.Client, weights string) {
	t.Helper()
	content, m := importable(weights)
	places, err := c.RequestModelUploads(t.Context(), "asked", m.Files)
	for _, p := range places {
		if err == nil {
			err = c.Put(t.Context(), p, strings.NewReader(content[p.Name]))
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func bring(t *testing.T, c *client.Client, name, weights string) api.Model {
	t.Helper()
	send(t, c, weights)
	_, m := importable(weights)
	made, err := c.CreateModel(t.Context(), name, m)
	if err != nil {
		t.Fatal(err)
	}
	return made
}

// during runs a server for as long as do takes.
func during(t *testing.T, c controlplane.Config, do func(c *client.Client)) {
	t.Helper()
	s := open(t, c)
	mesh, done := user(t, s)
	do(mesh)
	done()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

func bundled(weights string, parameters int64, license string) map[string]controlplane.BundledModel {
	return map[string]controlplane.BundledModel{"tiny": {Parameters: parameters, License: license, Files: fstest.MapFS{
		"config.json": {Data: []byte(`{"architectures":["LlamaForCausalLM"]}`)}, "model.safetensors": {Data: []byte(weights)},
	}}}
}

// The bundled model is described; a newer program's takes its place, but not that of
// one that somebody chose.
func TestTheBundledModelAndWhatComesInItsPlace(t *testing.T) {
	c := config(t, t.TempDir())
	model := func(mesh *client.Client) api.Model {
		m, err := mesh.Model(t.Context(), "tiny")
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	var first, newer, own api.Model
	c.Models = bundled("one", 0, "") // as older programs recorded it
	during(t, c, func(mesh *client.Client) { first = model(mesh) })
	c.Models = bundled("one", 7, "mit")
	during(t, c, func(mesh *client.Client) {
		if m := model(mesh); m.Parameters != 7 || m.License != "mit" || !m.Bundled || m.SHA256 != first.SHA256 {
			t.Errorf("the same files, described: %+v", m)
		}
	})
	if found, _ := filepath.Glob(filepath.Join(c.Dir, "s3", "data", "models", "base", "tiny", first.SHA256[:12], "manifest.json")); len(found) != 1 {
		t.Errorf("the bucket does not show the model: %v", found)
	}
	c.Models = bundled("two", 7, "mit")
	during(t, c, func(mesh *client.Client) {
		if newer = model(mesh); newer.SHA256 == first.SHA256 || !newer.Bundled {
			t.Errorf("a newer program's is not there: %+v", newer)
		}
		own = bring(t, mesh, "tiny", "ours")
	})
	c.Models = bundled("three", 7, "mit")
	during(t, c, func(mesh *client.Client) {
		if m := model(mesh); m.SHA256 != own.SHA256 || m.Bundled {
			t.Errorf("what an admin put there is gone: %+v", m)
		}
	})
}

// Imports that came to no end and models that were replaced leave nothing, but what
// another model or a job has of them.
func TestAServerSweepsWhatNoModelNeeds(t *testing.T) {
	c := config(t, t.TempDir())
	during(t, c, func(mesh *client.Client) {
		d, err := mesh.UploadDataset(t.Context(), "t.csv", strings.NewReader("text,label\na,b\n"), -1)
		if err != nil {
			t.Fatal(err)
		}
		bring(t, mesh, "mine", "a job has these")
		if _, err := mesh.SubmitJob(t.Context(), api.JobSpec{Dataset: d.ID, Config: []byte(`{"model":"mine"}`)}); err != nil {
			t.Fatal(err)
		}
		bring(t, mesh, "mine", "another model has these")
		bring(t, mesh, "other", "another model has these")
		bring(t, mesh, "mine", "nobody has these")
		bring(t, mesh, "mine", "the model has these")
		send(t, mesh, "never made known")
	})
	manifests := filepath.Join(c.Dir, "s3", "data", "models", "base", "other")
	if err := os.RemoveAll(manifests); err != nil {
		t.Fatal(err)
	}
	c.SweepInterval, c.SweepAge = 20*time.Millisecond, time.Nanosecond
	during(t, c, func(mesh *client.Client) {
		for _, weights := range []string{"nobody has these", "never made known"} {
			await(t, weights+" is gone", func() bool { return lacks(t, mesh, weights) == "model.safetensors" })
		}
		for _, weights := range []string{"a job has these", "another model has these", "the model has these"} {
			if missing := lacks(t, mesh, weights); missing != "" {
				t.Errorf("of the model whose weights say that %s, %s is gone", weights, missing)
			}
		}
		await(t, "the lost manifest is there", func() bool {
			found, err := filepath.Glob(filepath.Join(manifests, "*", "manifest.json"))
			return len(found) == 1 && !errors.Is(err, os.ErrNotExist)
		})
	})
}
