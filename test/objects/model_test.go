package objects_test

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// imported brings a base model into the mesh by the real client; it returns how many
// files were sent.
func (m *mesh) imported(name string, content map[string][]byte) (api.Model, int) {
	m.t.Helper()
	var files []api.ModelFile
	for name, data := range content {
		files = append(files, api.ModelFile{Name: name, Size: int64(len(data)), SHA256: sumOf(data)})
	}
	places, err := m.user.RequestModelUploads(m.t.Context(), name, files)
	for _, p := range places {
		if err == nil {
			err = m.user.SendModelFile(m.t.Context(), name, files, p, bytes.NewReader(content[p.Name]), nil)
		}
	}
	var made api.Model
	if err == nil {
		made, err = m.user.CreateModel(m.t.Context(), name, api.ModelManifest{Architecture: "LlamaForCausalLM", Files: files})
	}
	if err != nil {
		m.t.Fatal(err)
	}
	return made, len(places)
}

// A base model is in the store once, whatever it is called, and on a node once,
// however many jobs tune it: also after the agent was killed, and again only if
// somebody has written to it.
func TestAModelIsFetchedOnceByANode(t *testing.T) {
	m := newMesh(t, 1, 1)
	agent := m.agents[0]
	content := map[string][]byte{"config.json": []byte("{}"), "tokenizer.json": []byte("[]"), "model.safetensors": content(1, "weights", 3<<20)}
	mine, sent := m.imported("mine", content)
	if sent != len(content) {
		t.Errorf("%d files were sent", sent)
	}
	if _, sent = m.imported("yours", content); sent != 0 {
		t.Errorf("%d files were sent again", sent)
	}
	d, err := m.user.UploadDataset(t.Context(), "t.csv", strings.NewReader("text,label\na,b\n"), -1)
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(100)
	run := func(model string) {
		t.Helper()
		seed += 10
		id, open := m.submitWith(json.RawMessage(`{"model":"`+model+`"}`), d.ID, seed, 0), "the job has ended"
		m.until(&open, 2*time.Minute, func() bool {
			j, err := m.user.Job(t.Context(), id)
			if err == nil && j.State.Terminal() && j.State != api.JobSucceeded {
				t.Fatalf("the job with model %s is %s: %s", model, j.State, j.Reason)
			}
			return err == nil && j.State.Terminal()
		})
	}
	weights := api.Artifact{}
	fetched := func(when string, want int) {
		t.Helper()
		for _, f := range mine.Files {
			n := 1
			if f.Name == "model.safetensors" {
				weights, n = f, want
			}
			if got := m.proxy.fetched(f.Bucket, f.Key); got != n {
				t.Errorf("%s: %s was fetched %d times, want %d", when, f.Name, got, n)
			}
		}
	}
	run("mine") // two stages
	fetched("one job", 1)
	run("mine")
	run("yours")
	fetched("three jobs, two names", 1)
	agent.kill()
	agent.start()
	run("mine")
	fetched("after the agent was killed", 1)

	blob := filepath.Join(agent.dir, "cache", "blobs", weights.SHA256[:2], weights.SHA256)
	f, err := os.OpenFile(blob, os.O_WRONLY, 0) // as root may, whatever its mode
	if os.IsPermission(err) {
		err = os.Chmod(blob, 0o640)
		if err == nil {
			f, err = os.OpenFile(blob, os.O_WRONLY, 0)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("spoilt"), 1<<20); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	run("yours") // whose stages check every byte
	fetched("after the cached file was spoilt", 2)
}
