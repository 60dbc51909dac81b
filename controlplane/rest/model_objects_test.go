package rest_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/api"
)

// What somebody laid into the bucket by hand is listed with links to it; the folders of
// imported models are not.
func TestFilesInTheBucketAreListed(t *testing.T) {
	m := newMesh(t)
	for key, data := range map[string]string{"base/mine/config.json": "{}", "base/mine/model.safetensors": "weights", "base/mine/0123456789ab/config.json": "imported", "base/mine2/config.json": "other"} {
		if _, err := m.store.PutBytes(t.Context(), api.BucketModels, key, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	files, err := m.client(api.RoleUser).ModelObjects(t.Context(), "mine")
	if err != nil || len(files) != 2 {
		t.Fatalf("%+v, %v", files, err)
	}
	for _, f := range files {
		res, err := http.Get(f.URL)
		if err != nil {
			t.Fatal(err)
		}
		data, err := io.ReadAll(res.Body)
		res.Body.Close()
		if want := map[string]string{"config.json": "{}", "model.safetensors": "weights"}[f.Name]; err != nil || string(data) != want || f.Size != int64(len(want)) {
			t.Errorf("%+v holds %q, %v", f, data, err)
		}
	}
	if _, err := m.client(api.RoleUser).ModelObjects(t.Context(), "none"); err == nil || !strings.Contains(err.Error(), "no file lies") {
		t.Errorf("%v", err)
	}
	if _, err := m.client(api.RoleViewer).ModelObjects(t.Context(), "mine"); err == nil {
		t.Error("a viewer may read the bucket")
	}
}

// A user gets links to what the mesh has: the files of a model, the file of a dataset.
func TestLinksToFiles(t *testing.T) {
	m := newMesh(t)
	c := m.client(api.RoleUser)
	files := weights("x")
	announced := list(files)
	send(t, c, "small", announced, files)
	if _, err := c.CreateModel(t.Context(), "small", api.ModelManifest{Architecture: "LlamaForCausalLM", Files: announced}); err != nil {
		t.Fatal(err)
	}
	d, err := c.UploadDataset(t.Context(), "a.csv", strings.NewReader("text,label\na,b\n"), 15)
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.ModelFiles(t.Context(), "small")
	if err != nil || len(got) != len(files) {
		t.Fatalf("%+v, %v", got, err)
	}
	one, err := c.DatasetFile(t.Context(), d.ID)
	if err != nil {
		t.Fatal(err)
	}
	files["a.csv"] = "text,label\na,b\n"
	for _, f := range append(got, one) {
		var b strings.Builder
		if err := c.Download(t.Context(), f, &b); err != nil || b.String() != files[f.Name] {
			t.Errorf("%s: %d bytes, %v", f.Name, b.Len(), err)
		}
	}
	if _, err := c.ModelFiles(t.Context(), "none"); err == nil {
		t.Error("links to no model")
	}
	if _, err := m.client(api.RoleViewer).DatasetFile(t.Context(), d.ID); err == nil {
		t.Error("a viewer may read a dataset")
	}
}
