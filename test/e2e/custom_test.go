package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

const smallCSV = "text,label\n\"hello, world\",greeting\n\"good\nbye\",farewell\n"

func script(t *testing.T, name string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// A pipeline of foreign stages: one in POSIX shell, one in Python, side by side,
// and one that reads what both made.
func TestAPipelineOfShellAndPythonStages(t *testing.T) {
	m := newMesh(t)
	ds := m.upload("small.csv", []byte(smallCSV))
	job := m.submit(api.JobSpec{Dataset: ds.ID, Config: json.RawMessage(`{"greeting":"hallo"}`), Pipeline: &api.Pipeline{
		Nodes: []api.StageSpec{
			{Name: "count", Command: []string{"sh", script(t, "count.sh")}},
			{Name: "shout", Command: []string{"python3", script(t, "shout.py")}, Config: json.RawMessage(`{"suffix":"!"}`)},
			{Name: "join", Command: []string{"python3", script(t, "join.py")}},
		},
		Edges: []api.Edge{{From: "count", To: "join"}, {From: "shout", To: "join"}},
	}})
	done := m.await(job.ID, time.Minute)
	if done.State != api.JobSucceeded {
		t.Fatalf("job is %s: %s\n%s", done.State, done.Reason, pretty(done.Stages))
	}

	count, shout, join := stage(t, done, "count"), stage(t, done, "shout"), stage(t, done, "join")
	if !count.StartedAt.Before(*shout.FinishedAt) || !shout.StartedAt.Before(*count.FinishedAt) {
		t.Errorf("independent branches did not run side by side: count %v-%v, shout %v-%v", count.StartedAt, count.FinishedAt, shout.StartedAt, shout.FinishedAt)
	}
	var out struct{ Lines, Letters int }
	if err := json.Unmarshal(join.Output, &out); err != nil || out.Lines != 4 || out.Letters != len("HALLO!") {
		t.Errorf("join saw %s, want 4 lines and 6 letters (%v)", join.Output, err)
	}
	if shout.Metrics["letters"] != 6 {
		t.Errorf("metrics of shout: %v", shout.Metrics)
	}

	list, err := m.client().Artifacts(t.Context(), job.ID)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, a := range list {
		if a.Stage != "shout" || a.Name != "notes/loud.txt" {
			continue
		}
		found = true
		resp, err := http.Get(a.URL)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != "HALLO!" {
			t.Errorf("artifact holds %q (%v)", body, err)
		}
	}
	if !found {
		t.Errorf("no artifact shout/notes/loud.txt in %s", pretty(list))
	}

	plain := false
	for _, e := range m.events(job.ID) {
		if e.Stage == "count" && e.Level == api.LevelInfo && e.Message == "a plain line of a foreign program" {
			plain = true
		}
	}
	if !plain {
		t.Error("a plain line on standard output did not become an event")
	}
}

// A stage that fails three times ends as a dead letter with its last events;
// resume starts it again, and only it.
func TestAFailingStageIsRetriedThenDeadThenResumed(t *testing.T) {
	m := newMesh(t)
	ds := m.upload("small.csv", []byte(smallCSV))
	flag := filepath.Join(t.TempDir(), "fixed")
	job := m.submit(api.JobSpec{Dataset: ds.ID, Pipeline: &api.Pipeline{
		Nodes: []api.StageSpec{
			{Name: "count", Command: []string{"sh", script(t, "count.sh")}},
			{Name: "flaky", Command: []string{"sh", script(t, "flaky.sh"), flag}},
		},
		Edges: []api.Edge{{From: "count", To: "flaky"}},
	}})
	dead := m.await(job.ID, time.Minute)
	if dead.State != api.JobFailed {
		t.Fatalf("job is %s", dead.State)
	}
	flaky := stage(t, dead, "flaky")
	if flaky.Attempt != 3 || flaky.Error == nil || flaky.Error.Code != "NOT_YET" {
		t.Errorf("after the retries: attempt %d, error %+v", flaky.Attempt, flaky.Error)
	}
	letters, err := m.client().DeadLetters(t.Context(), job.ID)
	if err != nil || len(letters) != 1 {
		t.Fatalf("dead letters: %v %v", letters, err)
	}
	if l := letters[0]; l.Stage != "flaky" || l.Error.Class != "transient" || len(l.Events) == 0 || !strings.Contains(pretty(l.Events), "trying the door") {
		t.Errorf("dead letter: %s", pretty(l))
	}

	if in := letters[0].Input; in == nil || !slices.ContainsFunc(in.Inputs, func(a api.StageArtifact) bool { return a.Stage == "source" && a.SHA256 == ds.SHA256 }) || string(in.PreviousOutput["count"]) == "" {
		t.Errorf("the dead letter does not say what its attempt was given: %s", pretty(in))
	}

	if err := os.WriteFile(flag, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := m.client().ResumeJob(t.Context(), job.ID); err != nil {
		t.Fatal(err)
	}
	done := m.await(job.ID, time.Minute)
	if done.State != api.JobSucceeded {
		t.Fatalf("after resume the job is %s: %s", done.State, done.Reason)
	}
	if c := stage(t, done, "count"); c.Attempt != 1 || c.Fence != stage(t, dead, "count").Fence {
		t.Errorf("resume repeated a succeeded stage: %+v", c)
	}
	if letters, err := m.client().DeadLetters(t.Context(), job.ID); err != nil || len(letters) != 0 {
		t.Errorf("dead letters after success: %v %v", letters, err)
	}
}

func TestAFaultyJobIsRefusedWithTheFieldsName(t *testing.T) {
	m := newMesh(t)
	ds := m.upload("small.csv", []byte(smallCSV))
	tests := []struct {
		name, field, words string
		spec               api.JobSpec
	}{
		{"cycle", "pipeline.edges", "a -> b -> a", api.JobSpec{Dataset: ds.ID, Pipeline: &api.Pipeline{
			Nodes: []api.StageSpec{{Name: "a", Command: []string{"true"}}, {Name: "b", Command: []string{"true"}}},
			Edges: []api.Edge{{From: "a", To: "b"}, {From: "b", To: "a"}}}}},
		{"config", "config.training.rank", "1 to 1024", api.JobSpec{Dataset: ds.ID, Config: json.RawMessage(`{"training":{"rank":5000}}`)}},
		{"dataset", "dataset", "ds_none", api.JobSpec{Dataset: "ds_none"}},
	}
	for _, tt := range tests {
		_, err := m.client().SubmitJob(t.Context(), tt.spec)
		if err == nil || !strings.Contains(err.Error(), tt.field) || !strings.Contains(err.Error(), tt.words) {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
	if jobs, err := m.client().Jobs(t.Context()); err != nil || len(jobs) != 0 {
		t.Errorf("a refused job was kept: %v %v", jobs, err)
	}
}

// A stage that no node can run waits, and the job says why in words.
func TestAStageThatNeedsAGPUSaysWhyItWaits(t *testing.T) {
	m := newMesh(t)
	ds := m.upload("small.csv", []byte(smallCSV))
	job := m.submit(api.JobSpec{Dataset: ds.ID, Pipeline: &api.Pipeline{Nodes: []api.StageSpec{
		{Name: "hungry", Command: []string{"true"}, Requires: api.Requirements{GPUs: 1, GPUMemoryBytes: 8 << 30, Labels: map[string]string{"room": "none-such"}}},
	}}})
	deadline := time.Now().Add(20 * time.Second)
	for {
		out, err := m.cli("job", "show", job.ID)
		if err != nil {
			t.Fatal(err)
		}
		if reason := stage(t, m.job(job.ID), "hungry").WaitReason; strings.Contains(reason, "no node") && strings.Contains(reason, "nearest") {
			if !strings.Contains(strings.Join(strings.Fields(out), " "), "no node") {
				t.Errorf("job show does not say it:\n%s", out)
			}
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("no reason after 20 s:\n%s", out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}
