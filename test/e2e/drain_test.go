package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// verb starts a client verb that goes on for a while.
func (c *cluster) verb(args ...string) *verb {
	c.t.Helper()
	v := &verb{t: c.t, log: &lockedBuffer{}, done: make(chan struct{})}
	v.cmd = exec.Command(binary(c.t), args...)
	v.cmd.Env = append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(c.dir, "config"), "TUNEMESH_SERVER="+strings.Join(c.urls(), ","), "TUNEMESH_TOKEN="+c.token())
	v.cmd.Stdout, v.cmd.Stderr = v.log, v.log
	if err := v.cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	go func() { _ = v.cmd.Wait(); close(v.done) }()
	c.t.Cleanup(func() { _ = v.cmd.Process.Kill(); <-v.done })
	return v
}

type verb struct {
	t    *testing.T
	cmd  *exec.Cmd
	log  *lockedBuffer
	done chan struct{}
}

// says waits for words in the output.
func (v *verb) says(words string) {
	v.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(v.log.String(), words); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			v.t.Fatalf("not said within 30 s: %q\n%s", words, v.log)
		}
	}
}

// ends waits for the end and returns the exit code.
func (v *verb) ends(limit time.Duration) int {
	v.t.Helper()
	select {
	case <-v.done:
	case <-time.After(limit):
		v.t.Fatalf("%v did not end within %s:\n%s", v.cmd.Args[1:], limit, v.log)
	}
	return v.cmd.ProcessState.ExitCode()
}

func (v *verb) running() bool {
	select {
	case <-v.done:
		return false
	default:
		return true
	}
}

// where returns the node of a job's newest attempt, and the number of attempts.
func (c *cluster) where(job string) (node string, attempts int) {
	c.t.Helper()
	list, err := c.client().Attempts(c.t.Context(), job)
	if err != nil || len(list) == 0 {
		c.t.Fatalf("attempts of %s: %v", job, err)
	}
	return list[len(list)-1].NodeID, len(list)
}

// succeed raises a job's flag and waits for its end.
func (c *cluster) succeed(job, flag string) {
	c.t.Helper()
	raise(c.t, flag)
	if end := c.await(job, 2*time.Minute); end.State != api.JobSucceeded {
		c.t.Fatalf("job %s is %s: %s", job, end.State, end.Reason)
	}
}

// A node drains while a stage runs there: the wait ends with the stage and not
// before, new attempts go to the other node, and an end of the waiting is not an
// end of the draining. Then the machine itself dies, its attempt moves, and the
// wait for it ends.
func TestANodeIsDrained(t *testing.T) {
	c := newCluster(t)
	line, err := c.cli("token", "create", "--role", "node", "--uses", "2")
	if err != nil {
		t.Fatal(err)
	}
	agents := map[string]*process{"ws1": c.join(line, "ws1"), "ws2": c.join(line, "ws2")}
	c.awaitNodes(2)
	nodes, err := c.client().Nodes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	name := map[string]string{}
	for _, n := range nodes {
		name[n.ID] = n.Name
	}
	flags := t.TempDir()
	flag := func(job string) string { return filepath.Join(flags, job) }

	first := c.waiting(untilFlag("wait", flag("first")))
	node, _ := c.where(first.ID)
	other := ""
	for id := range name {
		if id != node {
			other = id
		}
	}

	// Nobody's patience: the time is over, then Ctrl-C. The node drains on.
	v := c.verb("node", "drain", name[node], "--wait", "--timeout", "2s")
	if code := v.ends(30 * time.Second); code != 1 || !strings.Contains(v.log.String(), "the time is over") || !strings.Contains(v.log.String(), "goes on draining") {
		t.Errorf("after its time-out: exit code %d\n%s", code, v.log)
	}
	v = c.verb("node", "drain", node, "--wait")
	v.says("still running there: 1 attempt")
	_ = v.cmd.Process.Signal(syscall.SIGINT)
	if code := v.ends(30 * time.Second); code != 130 || !strings.Contains(v.log.String(), "goes on draining") {
		t.Errorf("after Ctrl-C: exit code %d\n%s", code, v.log)
	}
	if out, err := c.cli("node", "list"); err != nil || !strings.Contains(out, "draining") {
		t.Errorf("node list shows no draining node: %v\n%s", err, out)
	}

	v = c.verb("node", "drain", name[node], "--wait")
	v.says("still running there: 1 attempt")
	second := c.waiting(untilFlag("wait", flag("second")))
	if at, _ := c.where(second.ID); at != other {
		t.Errorf("a new attempt went to the draining node %s", name[at])
	}
	if !v.running() {
		t.Errorf("the wait ended while the stage ran:\n%s", v.log)
	}
	c.succeed(first.ID, flag("first"))
	if code := v.ends(30 * time.Second); code != 0 || !strings.Contains(v.log.String(), "runs nothing and gets no new attempts") {
		t.Errorf("after the stage: exit code %d\n%s", code, v.log)
	}
	if at, attempts := c.where(first.ID); at != node || attempts != 1 {
		t.Errorf("the stage that ran there took %d attempts", attempts)
	}
	c.succeed(second.ID, flag("second"))

	c.cordoned(node, name[other], flag("third"))

	// The other node is drained, and its machine dies before the stage has ended.
	short := untilFlag("wait", flag("fourth"))
	short.MaxDisconnect = "0s"
	fourth := c.waiting(short)
	node, _ = c.where(fourth.ID)
	v = c.verb("node", "drain", node, "--wait")
	v.says("still running there: 1 attempt")
	if out, err := c.cli("node", "uncordon", otherOf(name, node)); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c.powerOff(agents[name[node]])
	c.succeed(fourth.ID, flag("fourth"))
	if code := v.ends(time.Minute); code != 0 {
		t.Errorf("after the node's death: exit code %d\n%s", code, v.log)
	}
	if at, attempts := c.where(fourth.ID); at == node || attempts != 2 {
		t.Errorf("attempt %d is on %s: it did not move", attempts, name[at])
	}
}

func otherOf(name map[string]string, node string) string {
	for id := range name {
		if id != node {
			return id
		}
	}
	return ""
}

// cordoned cordons the last free node: a job waits and says why, until the node
// is uncordoned.
func (c *cluster) cordoned(drained, free, flag string) {
	t := c.t
	t.Helper()
	if out, err := c.cli("node", "cordon", free); err != nil || !strings.Contains(out, "gets no new attempts") {
		t.Fatalf("cordon: %q %v", out, err)
	}
	ds, err := c.client().UploadDataset(t.Context(), "small.csv", bytes.NewReader([]byte(smallCSV)), int64(len(smallCSV)))
	if err != nil {
		t.Fatal(err)
	}
	job, err := c.client().SubmitJob(t.Context(), api.JobSpec{Dataset: ds.ID, Pipeline: &api.Pipeline{Nodes: []api.StageSpec{untilFlag("wait", flag)}}})
	if err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		seen, err := c.client().Job(t.Context(), job.ID)
		if err == nil && strings.Contains(stage(t, seen, "wait").WaitReason, "drain") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("a stage that no node may take does not say why: %s %v", pretty(seen.Stages), err)
		}
	}
	if out, err := c.cli("node", "drain", drained, "--undo"); err != nil || !strings.Contains(out, "takes attempts again") {
		t.Fatalf("drain --undo: %q %v", out, err)
	}
	c.succeed(job.ID, flag)
	if at, attempts := c.where(job.ID); at != drained || attempts != 1 {
		t.Errorf("attempt %d is on another node than the one that takes attempts again", attempts)
	}
	for verb, node := range map[string]string{"uncordon": free, "cordon": drained} {
		if out, err := c.cli("node", verb, node); err != nil {
			t.Fatalf("%s: %q %v", verb, out, err)
		}
	}
}

// powerMark, with its folder, marks all that an agent starts.
const powerMark = "TUNEMESH_TEST_MACHINE="

// powerOff kills an agent and all that it started.
func (c *cluster) powerOff(a *process) {
	c.t.Helper()
	a.stop(syscall.SIGKILL)
	m := &mesh{t: c.t, dir: a.dir, mark: powerMark + a.dir}
	for deadline := time.Now().Add(10 * time.Second); m.killAll() > 0; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			c.t.Fatalf("processes survive SIGKILL: %v", describe(m.processes()))
		}
	}
}
