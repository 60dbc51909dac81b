package e2e

import (
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/tunemesh/tunemesh/models"
)

// copies counts the files of a size under a folder.
func copies(t *testing.T, dir string, size int64) (n int) {
	t.Helper()
	err := filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Size() == size {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// Three people import the same model at once, by three servers, under two names. The
// weights are stored once, and stay for one name when the other gets another model.
func TestAClusterStoresAModelOnce(t *testing.T) {
	c := newCluster(t)
	folder := filepath.Join(t.TempDir(), "mini")
	if err := os.CopyFS(folder, models.Mini()); err != nil {
		t.Fatal(err)
	}
	var people sync.WaitGroup
	for i, name := range []string{"mine", "mine", "yours"} {
		people.Go(func() {
			if _, err := c.cliAt(c.urls()[i], "model", "import", folder, "--dtype", "F32", "--name", name); err != nil {
				t.Error(err)
			}
		})
	}
	people.Wait()
	mine, err := c.client().Model(t.Context(), "mine")
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, f := range mine.Files {
		if f.Name == "model.safetensors" {
			size = f.Size
		}
	}
	stored := filepath.Join(c.dir, "objects", "models")
	if n := copies(t, stored, size); n != 1 {
		t.Errorf("the weights are stored %d times", n)
	}
	if _, err := c.cli("model", "import", folder, "--name", "mine"); err == nil || !strings.Contains(err.Error(), "--replace") {
		t.Errorf("another model under the same name: %v", err)
	}
	if _, err := c.cli("model", "import", folder, "--name", "mine", "--replace"); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"mine", "yours"} {
		files, err := c.client().ModelFiles(t.Context(), name)
		if err != nil || len(files) == 0 {
			t.Fatalf("%s: %v", name, err)
		}
		for _, f := range files {
			if err := c.client().Download(t.Context(), f, io.Discard); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		if found, _ := filepath.Glob(filepath.Join(stored, "base", name, "*", "manifest.json")); len(found) == 0 {
			t.Errorf("the bucket does not show %s", name)
		}
	}
}
