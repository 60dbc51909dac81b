package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// untilFlag is a stage that runs until a file is there.
func untilFlag(name, flag string) api.StageSpec {
	script := `set -eu
echo "waiting for the flag"
while [ ! -e "` + flag + `" ]; do sleep 0.2; done
printf '{"status":"success","output":{},"artifacts":{},"metrics":{}}' > "$TUNEMESH_RESULT.tmp"
mv "$TUNEMESH_RESULT.tmp" "$TUNEMESH_RESULT"
`
	return api.StageSpec{Name: name, Command: []string{"sh", "-c", script}, MaxDisconnect: "10m"}
}

// waiting submits a job of one stage that runs until a flag is raised, and returns
// when it runs.
func (c *cluster) waiting(s api.StageSpec) api.JobDetail {
	c.t.Helper()
	ds, err := c.client().UploadDataset(c.t.Context(), "small.csv", strings.NewReader(smallCSV), int64(len(smallCSV)))
	if err != nil {
		c.t.Fatal(err)
	}
	job, err := c.client().SubmitJob(c.t.Context(), api.JobSpec{Dataset: ds.ID, Pipeline: &api.Pipeline{Nodes: []api.StageSpec{s}}})
	if err != nil {
		c.t.Fatal(err)
	}
	deadline := time.Now().Add(time.Minute)
	for {
		seen, err := c.client().Job(c.t.Context(), job.ID)
		if err == nil && stage(c.t, seen, s.Name).State == api.StageRunning {
			return job
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("the stage does not run: %s %v", pretty(seen.Stages), err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func raise(t *testing.T, flag string) {
	t.Helper()
	if err := os.WriteFile(flag, nil, 0o644); err != nil {
		t.Fatal(err)
	}
}

// recover runs `cluster recover` on a server's folder and returns what it printed
// and its exit code.
func (c *cluster) recover(name string, args ...string) (out string, code int) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(c.t), append([]string{"cluster", "recover", "--data-dir", filepath.Join(c.dir, name)}, args...)...)
	cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(c.dir, "config"))
	var text bytes.Buffer
	cmd.Stdout, cmd.Stderr = &text, &text
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		c.t.Fatal(err)
	}
	return text.String(), cmd.ProcessState.ExitCode()
}

// Two of three servers are destroyed with their disks while a stage runs. The
// third cannot lead alone; its operator makes it the only voter, and the mesh
// goes on: the agent comes back, the stage ends as the attempt it was, and new
// servers take the places of the old.
func TestAClusterComesBackFromTheDiskOfOneServer(t *testing.T) {
	c := newCluster(t)
	line, err := c.cliAt("https://"+c.http["s1"], "token", "create", "--role", "node", "--uses", "1")
	if err != nil {
		t.Fatal(err)
	}
	c.join(line, "ws1")
	c.awaitNodes(1)
	flag := filepath.Join(t.TempDir(), "flag")
	job := c.waiting(untilFlag("wait", flag))
	before, err := c.client().Attempts(t.Context(), job.ID)
	if err != nil || len(before) != 1 {
		t.Fatalf("%s %v", pretty(before), err)
	}

	if out, code := c.recover("s1", "--yes"); code == 0 || !strings.Contains(out, "in use") {
		t.Errorf("from under a server that runs: exit code %d\n%s", code, out)
	}
	c.servers["s1"].stop(os.Interrupt)
	if out, code := c.recover("s1", "--yes"); code != 4 || !strings.Contains(out, " answers at https://") {
		t.Errorf("while the others are well: exit code %d\n%s", code, out)
	}
	c.start(c.servers["s1"])
	c.awaitPeers("three voters", func(list []api.Peer) bool { return voters(list) == 3 })

	for _, name := range []string{"s2", "s3"} {
		c.servers[name].stop(syscall.SIGKILL)
		if err := os.RemoveAll(c.servers[name].dir); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := c.cliAt("https://"+c.http["s1"], "job", "list"); err == nil {
		t.Errorf("one of three servers answers as if it led: %s", out)
	}
	c.servers["s1"].stop(os.Interrupt)

	out, code := c.recover("s1")
	if code != 4 || !strings.Contains(out, "Lost may be") || !strings.Contains(out, "s2") || !strings.Contains(out, "1 job that goes on") || !strings.Contains(out, "--yes") {
		t.Errorf("without --yes: exit code %d\n%s", code, out)
	}
	out, code = c.recover("s1", "--yes", "--json")
	var done struct {
		Done   bool
		Backup string
		Last   uint64 `json:"last_index"`
		Index  uint64
		Others []struct{ Name string }
	}
	if err := json.Unmarshal([]byte(out), &done); err != nil || code != 0 || !done.Done || len(done.Others) != 2 || done.Index < done.Last+1<<32 {
		t.Fatalf("exit code %d, %v\n%s", code, err, out)
	}
	if info, err := os.Stat(filepath.Join(done.Backup, "raft.db")); err != nil || info.Size() == 0 {
		t.Errorf("the old folder was not copied aside: %v", err)
	}
	if info, err := os.Stat(done.Backup); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the copy holds keys and has mode %s (%v)", info.Mode(), err)
	}

	began := time.Now()
	c.start(c.servers["s1"])
	c.awaitPeers("one server alone", func(list []api.Peer) bool { return len(list) == 1 && voters(list) == 1 })
	c.awaitNodes(1)
	t.Logf("from the start of the recovered server to all agents alive: %s", time.Since(began).Round(10*time.Millisecond))
	raise(t, flag)
	if end := c.await(job.ID, 2*time.Minute); end.State != api.JobSucceeded {
		t.Fatalf("the job is %s: %s", end.State, end.Reason)
	}
	after, err := c.client().Attempts(t.Context(), job.ID)
	if err != nil || len(after) != 1 || after[0].Fence != before[0].Fence {
		t.Errorf("the attempt did not go on: %s %v", pretty(after), err)
	}

	// New servers, by the flags of the first start of the old.
	for _, name := range []string{"s2", "s3"} {
		c.start(c.servers[name])
	}
	c.awaitPeers("three voters again", func(list []api.Peer) bool { return len(list) == 3 && voters(list) == 3 })
	second := filepath.Join(t.TempDir(), "flag")
	next := c.waiting(untilFlag("wait", second))
	raise(t, second)
	if end := c.await(next.ID, 2*time.Minute); end.State != api.JobSucceeded {
		t.Errorf("the next job is %s: %s", end.State, end.Reason)
	}
	fences, err := c.client().Attempts(t.Context(), next.ID)
	if err != nil || len(fences) != 1 || fences[0].Fence <= done.Index {
		t.Errorf("the next fence is not above %d: %s %v", done.Index, pretty(fences), err)
	}
	for _, name := range []string{"s2", "s3"} {
		if _, err := c.cliAt("https://"+c.http[name], "job", "list"); err != nil {
			t.Error(err)
		}
	}
}
