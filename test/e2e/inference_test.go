package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/trainer/inference"
	"github.com/tunemesh/tunemesh/trainer/inference/inferencepb"
)

// addresses waits until a job's services have said where they listen.
func (m *mesh) addresses(id string, want int) []string {
	m.t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for {
		var found []string
		for _, e := range m.events(id) {
			if addr, ok := strings.CutPrefix(e.Message, "serving at "); ok {
				found = append(found, addr)
			}
		}
		if len(found) >= want {
			return found
		}
		if time.Now().After(deadline) {
			m.t.Fatalf("%d of %d services listen: %v\n%s", len(found), want, found, pretty(m.job(id).Stages))
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// killOne sends SIGKILL to one process of the mesh whose command line has words.
func (m *mesh) killOne(words string) {
	m.t.Helper()
	for _, pid := range m.processes() {
		line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.Contains(string(line), words) && !strings.Contains(string(line), "shim") {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				m.t.Fatal(err)
			}
			return
		}
	}
	m.t.Fatalf("no process of the mesh is %q: %v", words, describe(m.processes()))
}

func write(t *testing.T, addr string, in *inferencepb.GenerateRequest) (string, *inferencepb.Finish) {
	t.Helper()
	c, err := inference.Dial(addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	var b strings.Builder
	f, err := c.Generate(t.Context(), in, func(piece string) { b.WriteString(piece) })
	if err != nil {
		t.Fatal(err)
	}
	return b.String(), f
}

// Two replicas of the base model run behind the scheduler, answer alike, and one
// that is killed is placed again.
func TestTwoReplicasOfAModelAreServed(t *testing.T) {
	m := newMesh(t)
	data, err := os.ReadFile("../../examples/inference.json")
	if err != nil {
		t.Fatal(err)
	}
	var pipeline api.Pipeline
	if err := json.Unmarshal(data, &pipeline); err != nil {
		t.Fatal(err)
	}
	ds := m.upload("small.csv", []byte(smallCSV))
	job := m.submit(api.JobSpec{Dataset: ds.ID, Pipeline: &pipeline})
	replicas := m.addresses(job.ID, 2)
	if replicas[0] == replicas[1] {
		t.Fatalf("both at %s", replicas[0])
	}
	in := &inferencepb.GenerateRequest{Prompt: "The printer on the third floor", MaxTokens: 16}
	first, f := write(t, replicas[0], in)
	second, _ := write(t, replicas[1], in)
	if first == "" || first != second {
		t.Errorf("the replicas wrote %q and %q", first, second)
	}
	t.Logf("%d tokens, %.0f a second", f.GetCompletionTokens(), f.GetTokensPerSecond())

	m.killOne("trainer\x00inference")
	again := m.addresses(job.ID, 3)
	if third, _ := write(t, again[2], in); third != first {
		t.Errorf("the one placed again wrote %q", third)
	}
	if _, err := m.client().CancelJob(t.Context(), job.ID, ""); err != nil {
		t.Fatal(err)
	}
	m.await(job.ID, 30*time.Second)
}
