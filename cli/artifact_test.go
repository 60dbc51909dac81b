package cli_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tunemesh/tunemesh/cli"
)

// tree lists the files below a folder.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(dir, path)
			names = append(names, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Join(names, " ")
}

func TestFetchArtifacts(t *testing.T) {
	t.Run("a folder into a folder", func(t *testing.T) {
		dir := t.TempDir()
		r := cmdline{t: t, mesh: demoMesh()}.run("artifact", "get", jobID, "adapter/", "metrics.json", "-o", dir)
		if got := tree(t, dir); r.code != 0 || got != "adapter/adapter_config.json adapter/adapter_model.safetensors metrics.json" {
			t.Errorf("exit code %d, %s; files: %s", r.code, r.err, got)
		}
	})
	t.Run("one under a name of my own, not twice", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "sub", "m.json")
		l := cmdline{t: t, mesh: demoMesh()}
		if r := l.run("artifact", "get", jobID, "metrics.json", "-o", path); r.code != 0 {
			t.Fatalf("exit code %d, %s", r.code, r.err)
		}
		if r := l.run("artifact", "get", jobID, "metrics.json", "-o", path); r.code != cli.ExitUsage || !strings.Contains(r.err, "is there already") {
			t.Errorf("a second time: exit code %d, %s", r.code, r.err)
		}
		if r := l.run("artifact", "get", jobID, "metrics.json", "-o", path, "--force"); r.code != 0 {
			t.Errorf("with --force: exit code %d, %s", r.code, r.err)
		}
	})
	t.Run("what is not whole does not appear", func(t *testing.T) {
		dir := t.TempDir()
		r := cmdline{t: t, mesh: demoMesh()}.run("artifact", "get", jobID, "model-f16.gguf", "-o", dir+"/")
		if got := tree(t, dir); r.code == 0 || got != "" {
			t.Errorf("exit code %d, files: %s", r.code, got)
		}
	})
	t.Run("a full disk leaves nothing of what was fetched before", func(t *testing.T) {
		m := demoMesh()
		m.full = "adapter/adapter_model.safetensors"
		dir := t.TempDir()
		r := cmdline{t: t, mesh: m}.run("artifact", "get", jobID, "metrics.json", "adapter", "-o", filepath.Join(dir, "new", "out"))
		if said := strings.Join(strings.Fields(r.err), " "); r.code != cli.ExitInternal || !strings.Contains(said, "the disk is full: adapter/adapter_model.safetensors needs") || !strings.Contains(said, "Hint: free some space, or fetch to another disk with -o") {
			t.Errorf("exit code %d, %s", r.code, said)
		}
		if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
			t.Errorf("left %v, %v", left, err)
		}
		m.full = ""
		if r := (cmdline{t: t, mesh: m}).run("artifact", "get", jobID, "metrics.json", "adapter", "-o", filepath.Join(dir, "new", "out")); r.code != 0 {
			t.Errorf("the same line again: exit code %d, %s", r.code, r.err)
		}
	})
	t.Run("what was there stays when another cannot be fetched", func(t *testing.T) {
		m := demoMesh()
		m.full = "adapter/adapter_model.safetensors"
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "metrics.json"), []byte("mine"), 0o600); err != nil {
			t.Fatal(err)
		}
		if r := (cmdline{t: t, mesh: m}).run("artifact", "get", jobID, "metrics.json", "adapter", "-o", dir, "--force"); r.code != cli.ExitInternal {
			t.Errorf("exit code %d, %s", r.code, r.err)
		}
		if kept, err := os.ReadFile(filepath.Join(dir, "metrics.json")); err != nil || string(kept) != "mine" || tree(t, dir) != "metrics.json" {
			t.Errorf("%q, %v; files: %s", kept, err, tree(t, dir))
		}
	})
	t.Run("a folder is not replaced by a file", func(t *testing.T) {
		dir := t.TempDir()
		if err := os.Mkdir(filepath.Join(dir, "metrics.json"), 0o700); err != nil {
			t.Fatal(err)
		}
		if r := (cmdline{t: t, mesh: demoMesh()}).run("artifact", "get", jobID, "adapter", "metrics.json", "-o", dir, "--force"); r.code != cli.ExitUsage || tree(t, dir) != "" {
			t.Errorf("exit code %d, %s; files: %s", r.code, r.err, tree(t, dir))
		}
	})
	t.Run("nothing is written outside the folder", func(t *testing.T) {
		for _, name := range []string{"../evil", "/etc/evil", "a/../../evil"} {
			m := demoMesh()
			m.artifacts[2].Name = name
			m.bytes[name] = "evil"
			dir := filepath.Join(t.TempDir(), "in")
			if err := os.Mkdir(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if r := (cmdline{t: t, mesh: m}).run("artifact", "get", jobID, name, "-o", dir); r.code != cli.ExitRefused {
				t.Errorf("%s: exit code %d, %s", name, r.code, r.err)
			}
			if got := tree(t, filepath.Dir(dir)); got != "" {
				t.Errorf("%s wrote %s", name, got)
			}
		}
	})
	t.Run("the same name of two stages", func(t *testing.T) {
		m := demoMesh()
		m.artifacts = append(m.artifacts, art("export", "metrics.json", "artifacts", 3))
		dir := t.TempDir()
		if r := (cmdline{t: t, mesh: m}).run("artifact", "get", jobID, "metrics.json", "-o", dir); r.code != cli.ExitUsage || !strings.Contains(r.err, "--stage") {
			t.Errorf("exit code %d, %s", r.code, r.err)
		}
		if r := (cmdline{t: t, mesh: m}).run("artifact", "get", jobID, "metrics.json", "--stage", "export", "-o", dir); r.code != 0 {
			t.Errorf("with --stage: exit code %d, %s", r.code, r.err)
		}
	})
	for want, args := range map[string][]string{
		"needs JOB and NAME":           {},
		"needs a NAME, or --all":       {jobID},
		"leave the names out":          {jobID, "x", "--all"},
		"do not fit into one stream":   {jobID, "adapter", "-o", "-"},
		"the job has no artifact nope": {jobID, "nope"},
	} {
		if r := (cmdline{t: t, mesh: demoMesh()}).run(append([]string{"artifact", "get"}, args...)...); r.code == 0 || !strings.Contains(r.err, want) {
			t.Errorf("%v: exit code %d, %q; want %q", args, r.code, r.err, want)
		}
	}
}
