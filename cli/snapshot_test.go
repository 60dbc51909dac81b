package cli_test

import (
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/api/snapshot"
)

// savingMesh hands out a snapshot.
type savingMesh struct {
	*fakeMesh
	cut bool
}

func (m savingMesh) SaveSnapshot(_ context.Context, _ bool, w io.Writer) error {
	out, err := snapshot.NewWriter(w, snapshot.Header{Index: 7, Server: "s1", NotIncluded: []string{"objects"}})
	if err != nil || m.cut {
		return err
	}
	return out.Close()
}

func (m savingMesh) RestoreSnapshot(context.Context, io.ReadSeeker, bool) (snapshot.Summary, error) {
	return snapshot.Summary{}, nil
}

// A snapshot holds the cluster's keys: only who saved it may read it, also where
// it replaces a file that everybody could read.
func TestASnapshotIsForItsOwnerAlone(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "monday.snapshot")
	if err := os.WriteFile(path, []byte("old"), 0o644); err != nil {
		t.Fatal(err)
	}
	if r := (cmdline{t: t, mesh: savingMesh{fakeMesh: demoMesh()}}).run("snapshot", "save", path); r.code == 0 {
		t.Error("a file was overwritten without --force")
	}
	if r := (cmdline{t: t, mesh: savingMesh{demoMesh(), true}}).run("snapshot", "save", path, "--force"); r.code == 0 {
		t.Error("half a snapshot was saved")
	}
	if data, _ := os.ReadFile(path); string(data) != "old" {
		t.Error("half a snapshot has taken the file's place")
	}
	r := cmdline{t: t, mesh: savingMesh{fakeMesh: demoMesh()}}.run("snapshot", "save", path, "--force")
	if r.code != 0 {
		t.Fatal(r.err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".snapshot-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	help := cmdline{t: t, mesh: demoMesh()}.run("snapshot", "--help").out
	if !strings.Contains(help, "private key") || !strings.Contains(help, "0600") {
		t.Errorf("the help does not say that a snapshot is secret:\n%s", help)
	}
}
