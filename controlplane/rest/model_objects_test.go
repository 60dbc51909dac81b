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
