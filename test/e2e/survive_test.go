package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

func tickets(t *testing.T) []byte {
	t.Helper()
	data, err := os.ReadFile("../../examples/support-tickets.csv")
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// short is a config whose training takes some tens of seconds.
const short = `{"task":"classification","training":{"max_steps":60,"checkpoint_steps":5,"logging_steps":1},"evaluation":{"max_samples":40}}`

// SIGKILL of everything - control plane, agent, object store, shim, trainer - in
// mid-training; the same mesh started again goes on from the last checkpoint,
// completes by itself and ends with the very adapter of an undisturbed run.
func TestSigkillOfEverythingInMidTraining(t *testing.T) {
	m := newMesh(t)
	ds := m.upload("support-tickets.csv", tickets(t))

	calm := m.await(m.submit(api.JobSpec{Name: "calm", Dataset: ds.ID, Config: json.RawMessage(short)}).ID, 5*time.Minute)
	if calm.State != api.JobSucceeded {
		t.Fatalf("the undisturbed job is %s: %s\n%s", calm.State, calm.Reason, pretty(calm.Stages))
	}

	job := m.submit(api.JobSpec{Name: "stormy", Dataset: ds.ID, Config: json.RawMessage(short)})
	killedAt := m.awaitStep(job.ID, 22)
	before := m.job(job.ID)
	m.crash()
	m.start()
	done := m.await(job.ID, 5*time.Minute)
	if done.State != api.JobSucceeded {
		t.Fatalf("the job is %s after the crash: %s\n%s", done.State, done.Reason, pretty(done.Stages))
	}

	for _, name := range []string{"dataset", "validation", "preprocessing"} {
		if stage(t, before, name).Fence != stage(t, done, name).Fence {
			t.Errorf("stage %s was repeated after the crash", name)
		}
	}
	training := stage(t, done, "training")
	if training.Attempt < 2 {
		t.Errorf("training has attempt %d: it was not interrupted", training.Attempt)
	}
	// The first step after the restart: not from the start, not past the kill.
	first := int64(-1)
	for _, e := range m.events(job.ID) {
		if e.Stage == "training" && e.Fence == training.Fence && e.Step != nil && e.Loss != nil {
			first = *e.Step
			break
		}
	}
	if first <= 5 || first > killedAt+5 {
		t.Errorf("killed at step %d, went on at step %d: not from the last checkpoint", killedAt, first)
	}
	t.Logf("killed at step %d, went on at step %d", killedAt, first)

	want, got := m.adapterHash(calm), m.adapterHash(done)
	if want != got {
		t.Errorf("the adapter differs from the undisturbed run's: %s, want %s", got, want)
	}
}

// SIGTERM (Ctrl-C) in mid-training leaves nothing running, and the job goes on
// at the next start without a failure counted.
func TestStoppingTheMeshInMidTraining(t *testing.T) {
	m := newMesh(t)
	ds := m.upload("support-tickets.csv", tickets(t))
	job := m.submit(api.JobSpec{Dataset: ds.ID, Config: json.RawMessage(short)})
	m.awaitStep(job.ID, 8)
	m.stop()
	if left := m.processes(); len(left) > 0 {
		t.Fatalf("still running after Ctrl-C: %v", describe(left))
	}
	m.start()
	done := m.await(job.ID, 5*time.Minute)
	if done.State != api.JobSucceeded {
		t.Fatalf("job is %s: %s", done.State, done.Reason)
	}
	if s := stage(t, done, "training"); s.Tries != 0 {
		t.Errorf("the interruption counted as %d tries", s.Tries)
	}
}

func TestCancelStopsTheTrainer(t *testing.T) {
	m := newMesh(t)
	ds := m.upload("support-tickets.csv", tickets(t))
	job := m.submit(api.JobSpec{Dataset: ds.ID, Config: json.RawMessage(short)})
	m.awaitStep(job.ID, 3)
	if _, err := m.client().CancelJob(t.Context(), job.ID, "changed my mind"); err != nil {
		t.Fatal(err)
	}
	if got := m.job(job.ID).State; got != api.JobCancelled {
		t.Errorf("job is %s after cancel", got)
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		running := strings.Join(describe(m.processes()), "\n")
		if !strings.Contains(running, "trainer training") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the trainer outlives its job:\n%s", running)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// awaitStep waits until the job's training has reported a step and returns the
// newest one.
func (m *mesh) awaitStep(id string, step int64) int64 {
	m.t.Helper()
	deadline := time.Now().Add(3 * time.Minute)
	for {
		newest := int64(0)
		for _, e := range m.events(id) {
			if e.Stage == "training" && e.Step != nil && e.Loss != nil {
				newest = max(newest, *e.Step)
			}
		}
		if newest >= step {
			return newest
		}
		if job := m.job(id); job.State.Terminal() || time.Now().After(deadline) {
			m.t.Fatalf("job is %s at step %d, waiting for step %d: %s\n%s", job.State, newest, step, job.Reason, pretty(job.Stages))
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// adapterHash downloads the job's adapter and returns its SHA-256.
func (m *mesh) adapterHash(job api.JobDetail) string {
	m.t.Helper()
	list, err := m.client().Artifacts(m.t.Context(), job.ID)
	if err != nil {
		m.t.Fatal(err)
	}
	for _, a := range list {
		if a.Name != "adapter/adapter_model.safetensors" {
			continue
		}
		sum := sha256.New()
		if err := m.client().Download(m.t.Context(), a.Artifact, sum); err != nil {
			m.t.Fatal(err)
		}
		got := hex.EncodeToString(sum.Sum(nil))
		if got != a.SHA256 {
			m.t.Errorf("the object's SHA-256 is %s, the manifest says %s", got, a.SHA256)
		}
		return got
	}
	m.t.Fatalf("job %s has no adapter", job.Name)
	return ""
}
