package e2e

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/trainer/inference"
)

// documented runs the commands of a document as they stand there, but for what
// names replaces, in a folder like the repository's root.
type documented struct {
	t    *testing.T
	m    *mesh
	work string
}

func newDocumented(t *testing.T, m *mesh) *documented {
	t.Helper()
	d := &documented{t, m, t.TempDir()}
	for name, target := range map[string]string{"bin": filepath.Dir(binary(t)), "models": "../../models", "examples": "../../examples"} {
		target, err := filepath.Abs(target)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Symlink(target, filepath.Join(d.work, name)); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// in is d for a part of the test: what it serves ends with that.
func (d *documented) in(t *testing.T) *documented { return &documented{t, d.m, d.work} }

func (d *documented) command(ctx context.Context, line string) *exec.Cmd {
	// The binary under test may have another name than make's.
	line = strings.Replace(line, "bin/tunemesh", "bin/"+filepath.Base(binary(d.t)), 1)
	cmd := exec.CommandContext(ctx, "sh", "-c", "exec "+line)
	cmd.Dir = d.work
	cmd.Env = append(os.Environ(), d.m.mark, "XDG_CONFIG_HOME="+filepath.Join(d.m.dir, "config")) // dev logged this user in
	return cmd
}

// run returns what a command printed.
func (d *documented) run(line string) string {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), 2*time.Minute)
	defer cancel()
	out, err := d.command(ctx, line).CombinedOutput()
	if err != nil {
		d.t.Fatalf("%s: %v\n%s", line, err, tail(string(out), 3000))
	}
	return string(out)
}

// serve starts a service, waits until it answers, and ends it with the test. It returns what
// the service has printed by then.
func (d *documented) serve(line, addr string) string {
	d.t.Helper()
	var out lockedBuffer
	cmd := d.command(context.Background(), line)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		if err := cmd.Wait(); err != nil {
			d.t.Errorf("%s: after Ctrl-C: %v\n%s", line, err, out.String())
		}
	})
	for deadline := time.Now().Add(30 * time.Second); !strings.Contains(out.String(), "serving"); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("%s: nothing is served at %s: %s", line, addr, out.String())
		}
	}
	return out.String()
}

// commands are the lines of the sh blocks below a heading of docs/inference.md.
func commands(t *testing.T, heading string) (lines []string) {
	t.Helper()
	for _, block := range blocks(t, "docs/inference.md", heading, "sh") {
		for line := range strings.Lines(block) {
			if line = strings.TrimSpace(line); line != "" {
				lines = append(lines, line)
			}
		}
	}
	return lines
}

// Every command of docs/inference.md, section by section.
func TestTheCommandsOfTheInferenceDocument(t *testing.T) {
	m := newMesh(t)
	d := newDocumented(t, m)
	first := freeAddr(t)
	answers := 0
	for _, line := range commands(t, "By hand") {
		line = strings.ReplaceAll(line, "127.0.0.1:8001", first)
		if strings.Contains(line, " serve ") {
			if out := d.serve(line, first); !strings.Contains(out, "precision is stored: exact") || !strings.Contains(out, "the weights take ") {
				t.Errorf("%s: %s", line, out)
			}
			continue
		}
		out := d.run(line)
		if strings.Contains(line, " show ") {
			if !strings.Contains(out, "stored") || !strings.Contains(out, "tunemesh-mini") {
				t.Errorf("%s: %s", line, out)
			}
			continue
		}
		if strings.Contains(line, "--json") {
			var answer struct {
				Text   string
				Finish string `json:"finish_reason"`
			}
			if err := json.Unmarshal([]byte(out), &answer); err != nil || answer.Text == "" || answer.Finish == "" {
				t.Errorf("%s: %s, %v", line, out, err)
			}
		} else if !strings.Contains(out, "a second; first after") {
			t.Errorf("%s: %s", line, out)
		}
		answers++
	}
	if answers < 3 {
		t.Errorf("only %d answers", answers)
	}

	t.Run("precision", func(t *testing.T) {
		d, third := d.in(t), freeAddr(t)
		for _, line := range commands(t, "Precision") {
			if out := d.serve(strings.ReplaceAll(line, "127.0.0.1:8003", third), third); !strings.Contains(out, "precision is q8: as asked for") {
				t.Errorf("%s: %s", line, out)
			}
		}
	})

	t.Run("replicas", func(t *testing.T) {
		d := d.in(t)
		var id, addr string
		for _, line := range commands(t, "Replicas behind the scheduler") {
			if strings.Contains(line, "ADDRESS") {
				addr = m.addresses(id, 2)[1]
			}
			out := d.run(strings.NewReplacer("JOB", id, "ADDRESS", addr).Replace(line))
			if strings.Contains(line, "job submit") {
				id = newest(t, m)
				m.addresses(id, 2)
			}
			if strings.Contains(line, "job logs") && strings.Count(out, "serving at ") != 2 {
				t.Errorf("the events do not say where the replicas listen: %s", out)
			}
		}
		if job := m.await(id, 30*time.Second); job.State != api.JobCancelled {
			t.Errorf("the job is %s: %s", job.State, job.Reason)
		}
	})

	t.Run("a tuned model", func(t *testing.T) {
		d := d.in(t)
		ds := m.upload("support-tickets.csv", tickets(t))
		job := m.await(m.submit(api.JobSpec{Dataset: ds.ID, Config: []byte(`{"task":"classification","training":{"max_steps":3},"evaluation":{"max_samples":4}}`)}).ID, 5*time.Minute)
		if job.State != api.JobSucceeded {
			t.Fatalf("job is %s: %s", job.State, job.Reason)
		}
		second := freeAddr(t)
		for _, line := range commands(t, "A tuned model") {
			if line = strings.ReplaceAll(line, "127.0.0.1:8002", second); strings.Contains(line, " serve ") {
				d.serve(line, second)
			} else {
				d.run(strings.ReplaceAll(line, "JOB", job.ID))
			}
		}
		c, err := inference.Dial(second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if info, err := c.Model(t.Context()); err != nil || !info.GetTuned() || info.GetAdapter().GetBaseModel() != "tunemesh-mini" || info.GetPrecision() != "stored" || info.GetWeightBytes() == 0 {
			t.Errorf("the model served is %+v, %v", info, err)
		}
	})
}

// newest is the job submitted last.
func newest(t *testing.T, m *mesh) string {
	t.Helper()
	jobs, err := m.client().Jobs(t.Context())
	if err != nil || len(jobs) == 0 {
		t.Fatalf("no job: %v", err)
	}
	return jobs[0].ID
}
