package training_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/training"
	"github.com/tunemesh/tunemesh/trainer/training/history"
)

// asStage makes this test's program the stage's process, as `tunemesh trainer
// training` is one; TUNEMESH_BIN names a binary to start instead.
const asStage = "TUNEMESH_TEST_AS_STAGE"

// peakFile names the file that the process writes /proc/self/status to at its
// end. (What wait4 reports counts this test's own memory too, until the exec.)
const peakFile = "TUNEMESH_TEST_PEAK_FILE"

func TestMain(m *testing.M) {
	if os.Getenv(asStage) != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		code := contract.Run(ctx, training.Run, "TrainingAgent", os.Stdout)
		stop()
		if path := os.Getenv(peakFile); path != "" {
			status, _ := os.ReadFile("/proc/self/status")
			_ = os.WriteFile(path, status, 0o600)
		}
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// process is a stage that runs.
type process struct {
	cmd    *exec.Cmd
	out    *bufio.Scanner
	result string
	steps  int // metric lines of steps seen
}

func start(t testing.TB, in contract.Input) *process {
	t.Helper()
	dir := t.TempDir()
	data, err := json.Marshal(in)
	if err != nil {
		t.Fatal(err)
	}
	input := filepath.Join(dir, "input.json")
	if err := os.WriteFile(input, data, 0o600); err != nil {
		t.Fatal(err)
	}
	p := &process{cmd: exec.Command(os.Args[0]), result: filepath.Join(dir, "result.json")}
	if binary := os.Getenv("TUNEMESH_BIN"); binary != "" {
		p.cmd = exec.Command(binary, "trainer", "training")
	}
	p.cmd.Env = append(os.Environ(), asStage+"=1", contract.EnvInput+"="+input, contract.EnvResult+"="+p.result)
	p.cmd.Stderr = os.Stderr
	pipe, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p.out = bufio.NewScanner(pipe)
	p.out.Buffer(nil, 1<<20)
	return p
}

// until reads events until so many steps were reported or the process ended.
func (p *process) until(steps int) (ended bool) {
	for p.out.Scan() {
		var e contract.Event
		if json.Unmarshal(p.out.Bytes(), &e) == nil && e.Loss != nil {
			if p.steps++; p.steps == steps {
				return false
			}
		}
	}
	return true
}

func (p *process) kill() {
	_ = p.cmd.Process.Signal(syscall.SIGKILL)
	_, _ = io.Copy(io.Discard, readerOf(p.out))
	_ = p.cmd.Wait()
}

// readerOf drains a scanner.
func readerOf(s *bufio.Scanner) io.Reader {
	for s.Scan() {
	}
	return bytes.NewReader(nil)
}

// wait ends the process of its own will and returns what it said.
func (p *process) wait(t testing.TB) (contract.Result, error) {
	t.Helper()
	p.until(-1)
	err := p.cmd.Wait()
	r, rerr := contract.ReadResult(p.result)
	if rerr != nil {
		t.Fatal(rerr)
	}
	return r, err
}

// outcome is all that a training leaves: its weights and its log.
func outcome(t *testing.T, in contract.Input) []byte {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(in.OutputDir, history.FileName))
	if err != nil {
		t.Fatal(err)
	}
	return append(weightsOf(t, in), log...)
}

const long = `{"model":"tiny","export":{"skip_merged":true},"training":{%s"epochs":24,"batch_size":4,"gradient_accumulation":2,"dropout":0.1,"rank":4,"learning_rate":0.01,"checkpoint_steps":2,"logging_steps":1,"evaluations_per_epoch":2}}`

// Twenty times in one training (a few times where only the micro-batches differ)
// its process is killed: after some steps, at any moment, while a checkpoint is
// being written. Started again each time, it ends with the very bytes of a training
// that nobody disturbed.
func TestAKilledTrainingEndsWithTheSameBits(t *testing.T) {
	const packed = `"method":"lora","packing_tokens":40,`
	methods := []string{`"method":"lora",`, packed}
	if os.Getenv("TUNEMESH_SLOW") != "" {
		methods = append(methods, `"method":"lora","compute":"bf16",`, `"method":"lora","base_precision":"int8",`, `"method":"lora","base_precision":"int4",`, `"method":"full",`)
	} else {
		t.Log("LoRA on the base as it is stored; TUNEMESH_SLOW=1 adds products in bf16, int8, int4 and full training")
	}
	for _, method := range methods {
		t.Run(strings.NewReplacer(`"`, "", ",", " ").Replace(method), func(t *testing.T) {
			kills := 20
			if method == packed {
				kills = 6
			}
			calm := job(t, fmt.Sprintf(long, method))
			if _, err := start(t, calm).wait(t); err != nil {
				t.Fatal(err)
			}
			want := outcome(t, calm)
			seed := rand.Uint64()
			t.Logf("seed %d", seed)
			rng := rand.New(rand.NewPCG(seed, 1))
			in := job(t, fmt.Sprintf(long, method))
			halves, resumes, last := 0, 0, 0
			// On a busy machine the moments may all fall before the first step or
			// the first checkpoint: then more kills make up for it.
			for n := 0; n < kills || n < 3*kills && (halves < 1 || resumes < kills/5); n++ {
				before := halfCheckpoints(in.CheckpointDir)
				p := start(t, in)
				how := rng.IntN(3)
				if n >= kills && resumes < kills/5 {
					how = 0
				}
				switch how {
				case 0:
					p.until(1 + rng.IntN(12))
				case 1:
					time.Sleep(time.Duration(rng.Int64N(int64(150 * time.Millisecond))))
				case 2:
					waitForHalf(in.CheckpointDir, time.Duration(rng.Int64N(int64(3*time.Millisecond))))
				}
				p.kill()
				for _, half := range halfCheckpoints(in.CheckpointDir) {
					if !slices.Contains(before, half) {
						halves++
					}
				}
				if at := newestStep(in.CheckpointDir); at > last {
					resumes, last = resumes+1, at
				}
			}
			result, err := start(t, in).wait(t)
			if err != nil {
				t.Fatalf("%v: %+v", err, result.Error)
			}
			t.Logf("%d kills left half a checkpoint, %d gave the next start a newer one, up to step %d", halves, resumes, last)
			if halves < 1 && kills == 20 || resumes < kills/5 || last >= 120 {
				t.Errorf("this was too easy to say anything: %d half checkpoints, %d resumes, %d steps", halves, resumes, last)
			}
			if !bytes.Equal(outcome(t, in), want) {
				t.Error("weights or log differ from those of an undisturbed training")
			}
		})
	}
}

func halfCheckpoints(dir string) []string {
	found, _ := filepath.Glob(filepath.Join(dir, ".tmp-*"))
	return found
}

// waitForHalf returns a moment after a new checkpoint has begun to be written.
func waitForHalf(dir string, moment time.Duration) {
	old := map[string]bool{}
	for _, name := range halfCheckpoints(dir) {
		old[name] = true
	}
	for deadline := time.Now().Add(2 * time.Second); time.Now().Before(deadline); time.Sleep(100 * time.Microsecond) {
		for _, name := range halfCheckpoints(dir) {
			if !old[name] {
				time.Sleep(moment)
				return
			}
		}
	}
}

func newestStep(dir string) int {
	newest := 0
	paths, _ := filepath.Glob(filepath.Join(dir, "*", "state.json"))
	for _, path := range paths {
		var s training.State
		if data, err := os.ReadFile(path); err == nil && json.Unmarshal(data, &s) == nil && !strings.Contains(path, ".tmp-") {
			newest = max(newest, s.Step)
		}
	}
	return newest
}

// Told to end, the stage saves first, says that it was interrupted, and is gone
// well within the grace that an agent gives it.
func TestSIGTERMSavesACheckpointFirst(t *testing.T) {
	in := job(t, strings.Replace(fmt.Sprintf(long, ""), `"checkpoint_steps":2`, `"checkpoint_steps":100000`, 1))
	p := start(t, in)
	if p.until(7) {
		t.Fatal("ended before it was told to")
	}
	told := time.Now()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	result, err := p.wait(t)
	if err == nil || result.Error == nil || result.Error.Class != contract.ClassInterrupted {
		t.Errorf("%v, %+v", err, result.Error)
	}
	if took := time.Since(told); took > 5*time.Second {
		t.Errorf("took %v", took)
	}
	if step := newestStep(in.CheckpointDir); step < 7 || step >= 120 {
		t.Errorf("the newest checkpoint is of step %d", step)
	}
}
