package peft_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/trainer/adapter"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/training"
)

// TestMain lets the test's own binary be a training stage, which can be killed.
func TestMain(m *testing.M) {
	switch os.Getenv("TUNEMESH_TEST_STAGE") {
	case "1":
		os.Exit(stage())
	case "bench":
		if err := benchNative(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func values(t *testing.T, in contract.Input) map[string][]float32 {
	t.Helper()
	_, tensors, err := adapter.Load(filepath.Join(in.OutputDir, training.AdapterFolder))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string][]float32{}
	for _, v := range tensors {
		out[v.Name] = v.Data
	}
	return out
}

func difference(t *testing.T, a, b map[string][]float32) (worst float64) {
	t.Helper()
	if len(a) == 0 || len(a) != len(b) {
		t.Fatalf("%d and %d tensors", len(a), len(b))
	}
	for name, x := range a {
		y := b[name]
		if len(x) != len(y) {
			t.Fatalf("%s: %d and %d values", name, len(x), len(y))
		}
		for i := range x {
			worst = max(worst, math.Abs(float64(x[i]-y[i])))
		}
	}
	return worst
}

// A training that began on one engine ends on the other as it would have ended on
// one alone.
func TestACheckpointOfOneEngineIsContinuedByTheOther(t *testing.T) {
	installed(t)
	whole := job(t, llama(), config("native", `"load_best":false,`))
	_, want := run(t, whole)
	for _, order := range [][2]string{{"native", "peft"}, {"peft", "native"}} {
		t.Run(order[0]+" then "+order[1], func(t *testing.T) {
			in := job(t, llama(), config(order[0], `"load_best":false,`))
			run(t, in)
			// What is left of the first engine's training is its checkpoint of step 10.
			keep(t, in.CheckpointDir, "step_10")
			in.Config = []byte(config(order[1], `"load_best":false,`))
			clear(t, &in)
			s, log := run(t, in)
			if s.ResumedAt != 10 || s.Engine != order[1] {
				t.Fatalf("went on at step %d with %s", s.ResumedAt, s.Engine)
			}
			if len(s.Bits) != 2 || !strings.HasPrefix(s.Bits[0], order[0]+" ") || !strings.HasPrefix(s.Bits[1], order[1]+" ") {
				t.Errorf("the output says that it was computed by %q", s.Bits)
			}
			compare(t, want, log)
			if d := difference(t, values(t, whole), values(t, in)); d > 1e-4 {
				t.Errorf("the adapters differ by %g", d)
			}
		})
	}
}

// keep deletes all checkpoints but one, which another attempt then finds. Older
// steps are pruned in a training, so the one wanted is saved from it by a copy.
func keep(t *testing.T, dir, name string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	found := false
	for _, e := range entries {
		if e.Name() == name {
			found = true
			continue
		}
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	if !found {
		t.Fatalf("there is no checkpoint %s in %v", name, entries)
	}
}

func clear(t *testing.T, in *contract.Input) {
	t.Helper()
	in.Attempt++
	in.OutputDir, in.ScratchDir = t.TempDir(), t.TempDir()
}

// process is a training stage in a process of its own.
type process struct {
	cmd    *exec.Cmd
	events chan contract.Event
}

func start(t *testing.T, in contract.Input) *process {
	t.Helper()
	dir := t.TempDir()
	data, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "input.json"), data, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "TUNEMESH_TEST_STAGE=1", contract.EnvInput+"="+filepath.Join(dir, "input.json"), contract.EnvResult+"="+filepath.Join(dir, "result.json"))
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: cmd, events: make(chan contract.Event, 1000)}
	go func() {
		defer close(p.events)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var e contract.Event
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				p.events <- e
			}
		}
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	return p
}

// until waits for the metric of a step.
func (p *process) until(t *testing.T, step int64) {
	t.Helper()
	// A busy machine takes minutes to load PyTorch alone: this only ends a hang.
	timeout := time.After(20 * time.Minute)
	for {
		select {
		case e, open := <-p.events:
			if !open {
				t.Fatalf("the stage ended before step %d", step)
			}
			if e.Level == contract.LevelError {
				t.Fatalf("the stage failed: %s", e.Message)
			}
			if e.Level == contract.LevelMetric && e.Loss != nil && e.Step != nil && *e.Step >= step {
				return
			}
		case <-timeout:
			t.Fatalf("no step %d within twenty minutes", step)
		}
	}
}

// pythons lists the engine processes that belong to a job's scratch folder.
func pythons(scratch string) []string {
	entries, _ := os.ReadDir("/proc")
	var found []string
	for _, e := range entries {
		env, err := os.ReadFile(filepath.Join("/proc", e.Name(), "environ"))
		if err == nil && strings.Contains(string(env), "PYTHONPATH="+scratch) {
			found = append(found, e.Name())
		}
	}
	return found
}

func gone(t *testing.T, scratch string) {
	t.Helper()
	for range 1200 { // a minute: a busy machine takes its time to end a process
		if len(pythons(scratch)) == 0 {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Errorf("engine processes %v are left", pythons(scratch))
}

// The stage is killed, or told to stop; the next attempt goes on, and what comes
// out has the bits of a training that nothing interrupted, dropout included.
func TestAKilledTrainingGoesOnToTheSameBits(t *testing.T) {
	installed(t)
	more := `"load_best":false,"dropout":0.2,`
	whole := job(t, llama(), config("peft", more))
	run(t, whole)
	for _, c := range []struct {
		name   string
		signal syscall.Signal
		whom   string
		after  int64
		from   int // the step it goes on from, at least
	}{
		{"SIGKILL to the stage", syscall.SIGKILL, "stage", 7, 5},
		{"SIGKILL to Python", syscall.SIGKILL, "python", 12, 10},
		{"SIGTERM", syscall.SIGTERM, "stage", 8, 8},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := job(t, llama(), config("peft", more))
			interrupt(t, in, c.whom, c.signal, c.after)
			clear(t, &in)
			s, _ := run(t, in)
			if s.ResumedAt < c.from {
				t.Errorf("went on at step %d, want %d or later", s.ResumedAt, c.from)
			}
			if d := difference(t, values(t, whole), values(t, in)); d != 0 {
				t.Errorf("the adapters differ by %g", d)
			}
		})
	}
}

func TestAnEngineThatCannotRunSaysWhatToDo(t *testing.T) {
	t.Setenv(contract.EnvEngines, t.TempDir())
	t.Setenv("HOME", t.TempDir())
	in := job(t, llama(), config("peft", ""))
	p := start(t, in)
	var said []string
	for e := range p.events {
		said = append(said, e.Message)
	}
	if !slices.ContainsFunc(said, func(s string) bool { return strings.Contains(s, "tunemesh engine install peft") }) {
		t.Errorf("said %q", said)
	}
}

// interrupt starts a training and sends a signal to the stage, or to Python, when a
// step is done.
func interrupt(t *testing.T, in contract.Input, whom string, signal syscall.Signal, after int64) {
	t.Helper()
	p := start(t, in)
	p.until(t, after)
	if whom == "python" {
		for _, pid := range pythons(in.ScratchDir) {
			if err := exec.Command("kill", "-9", pid).Run(); err != nil {
				t.Fatal(err)
			}
		}
	} else if err := p.cmd.Process.Signal(signal); err != nil {
		t.Fatal(err)
	}
	for range p.events {
	}
	if err := p.cmd.Wait(); err == nil {
		t.Fatal("the stage ended well")
	}
	gone(t, in.ScratchDir)
}

// killed is a training of which SIGKILL has left its checkpoints, ready for another
// attempt.
func killed(t *testing.T, in *contract.Input, whom string, after int64) {
	t.Helper()
	interrupt(t, *in, whom, syscall.SIGKILL, after)
	clear(t, in)
}
