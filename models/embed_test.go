package models_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/tunemesh/tunemesh/models"
	"github.com/tunemesh/tunemesh/trainer/importer"
)

// What the program says of its model is what an import of the same files finds.
func TestTheBundledModelIsAsItIsSaidToBe(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(filepath.Join(dir, "mini"), models.Mini()); err != nil {
		t.Fatal(err)
	}
	found, err := importer.Import(t.Context(), filepath.Join(dir, "mini"), filepath.Join(dir, "out"), importer.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if found.Parameters != models.MiniParameters || found.License != models.MiniLicense {
		t.Errorf("it has %d parameters and the licence %q", found.Parameters, found.License)
	}
}
