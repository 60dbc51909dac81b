package peft_test

import (
	"bytes"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// A job whose config says training.engine=peft goes through the whole pipeline of
// tunemesh dev: placed by its engine, trained in PyTorch, evaluated and exported by
// the stages that know nothing of it. The same job file with native does so too.
func TestAWholePipelineOnEachEngine(t *testing.T) {
	m := installed(t)
	binary, err := filepath.Abs("../../bin/tunemesh")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(binary); err != nil {
		t.Fatalf("no binary to test: run make build first (%v)", err)
	}
	dev := startDev(t, binary)
	var planned api.JobPlan
	if err := json.Unmarshal(dev.run(t, "job", "submit", "--dry-run", "--json", "--set", "training.engine=peft"), &planned); err != nil {
		t.Fatal(err)
	}
	if len(planned.Stages) != 1 || planned.Stages[0].Engine != "peft" || planned.Stages[0].Waits != "" || len(planned.Stages[0].Nodes) != 1 || !planned.Stages[0].Nodes[0].CanRun {
		t.Errorf("the plan is %+v", planned)
	}
	var losses []float64
	for _, name := range []string{"native", "peft"} {
		out := dev.run(t, "job", "submit", "--dataset", "../../examples/support-tickets.csv", "--json",
			"--set", "training.engine="+name, "--set", "training.max_steps=12", "--set", "training.logging_steps=1",
			"--set", "training.max_eval_samples=16", "--set", "evaluation.max_samples=8")
		var job api.JobDetail
		if err := json.Unmarshal(out, &job); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		dev.run(t, "job", "watch", job.ID)
		if err := json.Unmarshal(dev.run(t, "job", "show", job.ID, "--json"), &job); err != nil {
			t.Fatal(err)
		}
		if job.State != api.JobSucceeded {
			t.Fatalf("the job with %s ended as %s", name, job.State)
		}
		for _, s := range job.Stages {
			if s.Kind != "training" {
				continue
			}
			if s.Requires.MemoryBytes == 0 {
				t.Errorf("the training with %s reserves no memory", name)
			}
			if s.Requires.Engine != name {
				t.Errorf("training requires the engine %s, want %s", s.Requires.Engine, name)
			}
			var output struct {
				Training struct {
					Engine    string  `json:"engine"`
					FirstLoss float64 `json:"first_loss"`
				} `json:"training"`
			}
			if err := json.Unmarshal(s.Output, &output); err != nil {
				t.Fatal(err)
			}
			if output.Training.Engine != name {
				t.Errorf("trained by %q, want %s", output.Training.Engine, name)
			}
			losses = append(losses, output.Training.FirstLoss)
		}
	}
	if len(losses) != 2 || losses[0]-losses[1] > tolerance || losses[1]-losses[0] > tolerance {
		t.Errorf("first losses %v, want two equal ones", losses)
	}
	list := string(dev.run(t, "node", "list", "--json"))
	if !strings.Contains(list, m.Packages["torch"]) {
		t.Errorf("the node does not tell of torch %s: %.600s", m.Packages["torch"], list)
	}
}

type dev struct {
	binary string
	env    []string
}

func startDev(t *testing.T, binary string) dev {
	t.Helper()
	dir := t.TempDir()
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}
	d := dev{binary: binary, env: append(os.Environ(), "XDG_CONFIG_HOME="+filepath.Join(dir, "config"))}
	cmd := exec.Command(binary, "dev", "--data-dir", dir, "--http-addr", free(), "--raft-addr", free())
	log := &lines{}
	cmd.Env, cmd.Stdout, cmd.Stderr = d.env, log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("log of the mesh:\n%s", log.text())
		}
	})
	for range 600 {
		if strings.Contains(log.text(), "Ctrl-C ends the mesh") {
			return d
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("the mesh is not up after a minute:\n%s", log.text())
	return d
}

func (d dev) run(t *testing.T, args ...string) []byte {
	t.Helper()
	cmd := exec.Command(d.binary, args...)
	cmd.Env = d.env
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tunemesh %s: %v\n%s%s", strings.Join(args, " "), err, tail(string(out)), stderr.String())
	}
	return out
}

func tail(s string) string { return s[max(0, len(s)-3000):] }

type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) text() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
