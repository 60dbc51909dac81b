//go:build linux

package nodeagent_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/nodeagent"
	"github.com/tunemesh/tunemesh/nodeagent/launcher"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

// The test binary is the whole program: shim, trainer, and agent to be killed.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 {
		switch os.Args[1] {
		case "shim":
			os.Exit(launcher.ShimMain(os.Args[2:]))
		case "trainer":
			ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
			code := contract.Run(ctx, testStage, "TestAgent", os.Stdout)
			stop()
			os.Exit(code)
		case "agent":
			a, err := nodeagent.New(config(os.Args[2]), client.New(client.Config{Servers: []string{os.Args[3]}, Retries: -1}))
			if err == nil {
				err = a.Run(context.Background())
			}
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

// testStage counts to config.lines, one event each, from where its checkpoint
// stands, and makes a folder as its artifact.
func testStage(ctx context.Context, in contract.Input, emit *contract.Emitter) (contract.Result, error) {
	var c struct {
		Lines, Every int
		PauseMS      int    `json:"pause_ms"`
		Hang         bool   // at the end
		Tell         string // a variable of the environment, for the output
	}
	if err := json.Unmarshal(in.Config, &c); err != nil {
		return contract.Result{}, err
	}
	begin := 0
	entries, _ := os.ReadDir(in.CheckpointDir)
	for _, e := range entries {
		data, _ := os.ReadFile(filepath.Join(in.CheckpointDir, e.Name(), "state"))
		if n, err := strconv.Atoi(string(data)); err == nil {
			begin = max(begin, n)
		}
	}
	save := func(n int) error {
		name := fmt.Sprintf("step_%d", n)
		dir := filepath.Join(in.CheckpointDir, name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, "state"), []byte(strconv.Itoa(n)), 0o644); err != nil {
			return err
		}
		emit.Emit(contract.Event{Message: "saved", Checkpoint: name})
		return nil
	}
	for i := begin + 1; i <= c.Lines; i++ {
		emit.Info(fmt.Sprintf("line %d", i), nil)
		if c.Every > 0 && i%c.Every == 0 {
			if err := save(i); err != nil {
				return contract.Result{}, err
			}
		}
		select {
		case <-time.After(time.Duration(c.PauseMS) * time.Millisecond):
		case <-ctx.Done():
			if err := save(i); err != nil {
				return contract.Result{}, err
			}
			return contract.Result{}, ctx.Err()
		}
	}
	for c.Hang {
		time.Sleep(time.Second)
	}
	if err := os.MkdirAll(filepath.Join(in.OutputDir, "adapter", "sub"), 0o755); err != nil {
		return contract.Result{}, err
	}
	for name, text := range map[string]string{"adapter/config.json": "{}", "adapter/sub/weights": "0123456789", "empty": ""} {
		if err := os.WriteFile(filepath.Join(in.OutputDir, name), []byte(text), 0o644); err != nil {
			return contract.Result{}, err
		}
	}
	output := map[string]any{"began_at": begin, "gomaxprocs": os.Getenv("GOMAXPROCS")}
	if c.Tell != "" {
		output = map[string]any{c.Tell: os.Getenv(c.Tell)}
	}
	return contract.Result{
		Output:    output,
		Metrics:   map[string]float64{"lines": float64(c.Lines)},
		Artifacts: map[string]contract.Artifact{"adapter": {Path: "adapter", Place: contract.PlaceAdapter}, "empty.txt": {Path: "empty"}},
	}, nil
}

func config(dir string) nodeagent.Config {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return nodeagent.Config{
		Dir: dir, Name: "test", Executable: exe, StopGrace: 3 * time.Second, ExitGrace: 3 * time.Second,
		FlushInterval: 10 * time.Millisecond, RetryBase: 5 * time.Millisecond, RetryMax: 50 * time.Millisecond,
		Detect: func(context.Context, string) api.Capability { return api.Capability{OS: "test"} },
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	}
}

// run starts an agent; the returned function ends it and waits.
func run(t *testing.T, p *plane, c nodeagent.Config) (end func()) {
	t.Helper()
	a, err := nodeagent.New(c, p)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	ended := false
	end = func() {
		if ended {
			return
		}
		ended = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run = %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("Run did not end")
		}
	}
	t.Cleanup(func() {
		end()
		endStages(c)
	})
	return end
}

// endStages ends what a test that failed has left running.
func endStages(c nodeagent.Config) {
	l := launcher.NewLocal(c.Executable)
	dirs, _ := filepath.Glob(filepath.Join(c.Dir, "attempts", "*", "launch"))
	for _, dir := range dirs {
		if h, err := l.Find(dir); err == nil {
			_ = l.Kill(h)
		}
	}
}

func builtin(fence uint64, cfg string) api.Assignment {
	return api.Assignment{Fence: fence, JobID: "01JOB", Attempt: 1, Stage: api.StageSpec{Name: "training", Kind: "training"}, Config: json.RawMessage(cfg)}
}

func shell(fence uint64, script string) api.Assignment {
	return api.Assignment{Fence: fence, JobID: "01JOB", Attempt: 1, Stage: api.StageSpec{Name: "own", Kind: api.KindCustom, Command: []string{"sh", "-c", script}}}
}

const succeed = `printf '{"status":"success","output":{"ok":true}}' > "$TUNEMESH_RESULT"`

// processes are the stage's and the shim's pids of an attempt.
func processes(t *testing.T, dir string, fence uint64) (shim, child int) {
	t.Helper()
	var c struct{ PID, Child int }
	path := filepath.Join(dir, "attempts", fmt.Sprint(fence), "launch", "shim.json")
	for range 500 {
		data, err := os.ReadFile(path)
		if err == nil && json.Unmarshal(data, &c) == nil && c.Child != 0 {
			return c.PID, c.Child
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the stage was never started")
	return 0, 0
}

func gone(t *testing.T, pid int) {
	t.Helper()
	for range 500 {
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(data), ") Z ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("process %d still runs", pid)
}

func cleared(t *testing.T, dir string, fence uint64) {
	t.Helper()
	for range 500 {
		if _, err := os.Stat(filepath.Join(dir, "attempts", fmt.Sprint(fence))); os.IsNotExist(err) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Errorf("files of attempt %d are still there", fence)
}

func counted(from, to int) []string {
	var out []string
	for i := from; i <= to; i++ {
		out = append(out, fmt.Sprintf("line %d", i))
	}
	return out
}

func TestAStageRunsAndAllOfItArrives(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	p.putFailures = 2
	as := builtin(41, `{"lines":30}`)
	as.Devices.CPUCores = 2
	p.assign(as)
	run(t, p, config(dir))
	report := p.ended(41)
	if report.State != api.AttemptSucceeded || report.Error != nil || report.Metrics["lines"] != 30 || string(report.Output) != `{"began_at":0,"gomaxprocs":"2"}` {
		t.Errorf("report %+v %s", report, report.Output)
	}
	var names []string
	for _, a := range report.Artifacts {
		names = append(names, a.Bucket+":"+a.Name)
		if a.URL != "" {
			t.Errorf("the report carries the link %s", a.URL)
		}
	}
	if got, want := fmt.Sprint(names), "[adapter:adapter/config.json adapter:adapter/sub/weights :empty.txt]"; got != want {
		t.Errorf("artifacts %s, want %s", got, want)
	}
	if got := p.object("41//adapter/sub/weights"); got != "0123456789" {
		t.Errorf("object %q", got)
	}
	if got := p.messages(41); !slices.Equal(got, counted(1, 30)) {
		t.Errorf("events %q", got)
	}
	if ev := p.events[41][0]; ev.RunID != "01JOB" || ev.Stage != "training" || ev.Fence != 41 || ev.Attempt != 1 || ev.Agent != "TestAgent" || !strings.HasPrefix(ev.Node, "n-") {
		t.Errorf("event %+v", ev)
	}
	if first := p.reports[41][0]; first.State != api.AttemptRunning {
		t.Errorf("first report %+v", first)
	}
	cleared(t, dir, 41)
	p.until("a heartbeat names nothing", func() bool { return len(p.beats) > 0 && len(p.beats[len(p.beats)-1].Fences) == 0 })
}

// The program that reads exported files by itself is the node's setting: the builtin
// export stage has it from the agent, another builtin stage and a user's command have not,
// not even one that calls itself export.
func TestOnlyTheExportStageIsToldOfTheJudge(t *testing.T) {
	t.Setenv(contract.EnvExportJudge, "node judge.mjs")
	p, dir := newPlane(t), t.TempDir()
	tell := fmt.Sprintf(`{"tell":%q}`, contract.EnvExportJudge)
	export := builtin(71, tell)
	export.Stage = api.StageSpec{Name: "to_gguf", Kind: "export"}
	own := shell(73, `printf '{"status":"success","output":{"%s":"%s"}}' `+contract.EnvExportJudge+` "$`+contract.EnvExportJudge+`" > "$TUNEMESH_RESULT"`)
	own.Stage.Name = "export"
	for _, as := range []api.Assignment{export, builtin(72, tell), own} {
		p.assign(as)
	}
	run(t, p, config(dir))
	for fence, want := range map[uint64]string{71: "node judge.mjs", 72: "", 73: ""} {
		if report := p.ended(fence); report.State != api.AttemptSucceeded || string(report.Output) != fmt.Sprintf(`{%q:%q}`, contract.EnvExportJudge, want) {
			t.Errorf("attempt %d: %s with %s, want %q", fence, report.State, report.Output, want)
		}
	}
}

func TestACustomStageGetsItsInputsAndItsPlainLinesBecomeEvents(t *testing.T) {
	p := newPlane(t)
	data := []byte(strings.Repeat("a,b\n", 200_000))
	file := p.put("raw/ds.csv", data)
	p.breakAfter, p.breaks = 300_000, 2
	file.Name = "ds.csv"
	as := shell(42, `read first; echo "stdin: $first"; echo err >&2; grep -c contract "$TUNEMESH_INPUT"; grep -c -e '"original_name": "tickets.csv"' -e '"base_source": "hf:org/tiny@0a1b"' "$TUNEMESH_INPUT"; wc -c < ../in/source/ds.csv; wc -l < ../in/source/ds.csv; pwd | grep -c scratch; echo; echo "token=$TUNEMESH_TOKEN"; printf '{"level":"ERROR","message":"json","custom":1}\nno end'; `+succeed)
	as.Inputs = []api.StageArtifact{{Stage: "source", Artifact: file, OriginalName: "tickets.csv"}}
	as.BaseSource = "hf:org/tiny@0a1b"
	p.assign(as)
	t.Setenv("TUNEMESH_TOKEN", "secret")
	run(t, p, config(t.TempDir()))
	if r := p.ended(42); r.State != api.AttemptSucceeded || string(r.Output) != `{"ok":true}` {
		t.Fatalf("report %+v", r)
	}
	want := []string{"stdin: {", "err", "1", "2", "800000", "200000", "1", "", "token=", "json", "no end"}
	if got := p.messages(42); !slices.Equal(got, want) {
		t.Errorf("events %q, want %q", got, want)
	}
	if ev := p.events[42][9]; ev.Level != "ERROR" || string(ev.Fields) != `{"custom":1}` {
		t.Errorf("event %+v", ev)
	}
}

func TestFailuresHaveTheirClass(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	good := p.put("in", []byte("x"))
	corrupt, absent := good, good
	corrupt.SHA256 = strings.Repeat("ab", 32)
	absent.SHA256, absent.URL = strings.Repeat("cd", 32), good.URL+"-absent"
	cases := map[uint64]struct {
		as    api.Assignment
		class string
		code  string
		text  string
	}{
		1:  {shell(1, `echo boom >&2; exit 3`), "crashed", "CRASHED", "exit code 3 and without a result; its last lines were:\nboom"},
		2:  {shell(2, `kill -SEGV $$`), "crashed", "CRASHED", "signal SIGSEGV"},
		3:  {shell(3, succeed+`; exit 9`), "crashed", "BAD_EXIT", "exit code 9"},
		4:  {shell(4, `echo nonsense > "$TUNEMESH_RESULT"`), "internal", "BAD_RESULT", "result document"},
		5:  {shell(5, `printf '{"status":"error","error":{"class":"bad_input","code":"RAGGED","message":"row","row":7,"column":"text"}}' > "$TUNEMESH_RESULT"; exit 1`), "bad_input", "RAGGED", "row"},
		6:  {shell(6, `echo "write: no space left on device"; exit 1`), "resources", "DISK_FULL", "disk"},
		7:  {shell(7, `printf '{"status":"success","artifacts":{"m":"not-there"}}' > "$TUNEMESH_RESULT"`), "internal", "MISSING_ARTIFACT", "not-there"},
		8:  {shell(8, `ln -s /etc/passwd ../out/p; printf '{"status":"success","artifacts":{"m":"p"}}' > "$TUNEMESH_RESULT"`), "internal", "MISSING_ARTIFACT", "p"},
		9:  {shell(9, succeed), "transient", "INPUT_CORRUPT", "source/in"},
		10: {shell(10, succeed), "transient", "INPUT_UNAVAILABLE", "404"},
		11: {shell(11, ""), "config", "COMMAND_NOT_FOUND", "no-such-program"},
		12: {shell(12, `echo up; sleep 60`), "interrupted", "TIMEOUT", "timeout"},
		13: {shell(13, ""), "internal", "BAD_ASSIGNMENT", "../x"},
	}
	for fence, c := range cases {
		c.as.Stage.Name = fmt.Sprintf("s%d", fence)
		switch fence {
		case 9:
			c.as.Inputs = []api.StageArtifact{{Stage: "source", Artifact: corrupt}}
		case 10:
			c.as.Inputs = []api.StageArtifact{{Stage: "source", Artifact: absent}}
		case 11:
			c.as.Stage.Command = []string{"no-such-program"}
		case 12:
			c.as.Stage.Timeout = "300ms"
		case 13:
			c.as.JobID = "../x"
		}
		p.assign(c.as)
	}
	run(t, p, config(dir))
	for fence, c := range cases {
		r := p.ended(fence)
		if r.State != api.AttemptFailed || r.Error == nil || r.Error.Class != c.class || r.Error.Code != c.code || !strings.Contains(r.Error.Message, c.text) {
			t.Errorf("attempt %d: %+v %+v, want %s %s %q", fence, r, r.Error, c.class, c.code, c.text)
		} else if want := contract.Class(c.class).Retryable(); r.Error.Retryable != want {
			t.Errorf("attempt %d: retryable %v", fence, r.Error.Retryable)
		}
		cleared(t, dir, fence)
	}
	if e := p.ended(5).Error; e.Row != 7 || e.Column != "text" {
		t.Errorf("the place of the fault is lost: %+v", e)
	}
}

// A report on refused data is worth as much as the refusal.
func TestAFailedStageLeavesItsReportBehind(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	p.putFailures = 1
	const refuse = `echo 3 bad rows > ../out/report.txt; printf '{"status":"error","error":{"class":"bad_input","code":"BAD"},"artifacts":{"report":"report.txt"}}' > "$TUNEMESH_RESULT"; exit 1`
	for fence, script := range map[uint64]string{
		1: refuse,
		2: strings.ReplaceAll(refuse, `"report.txt"`, `"not-there"`),
		3: strings.ReplaceAll(refuse, `"status":"error"`, `"status":"success"`),
	} {
		as := shell(fence, script)
		as.Stage.Name = fmt.Sprintf("s%d", fence)
		p.assign(as)
	}
	run(t, p, config(dir))
	for fence, c := range map[uint64]struct {
		code string
		left int
	}{1: {"BAD", 1}, 2: {"BAD", 0}, 3: {"BAD_EXIT", 1}} {
		r := p.ended(fence)
		if r.State != api.AttemptFailed || r.Error.Code != c.code || len(r.Artifacts) != c.left {
			t.Errorf("attempt %d: %s %+v, artifacts %+v", fence, r.State, r.Error, r.Artifacts)
		}
	}
	if got := p.object("1//report"); got != "3 bad rows\n" {
		t.Errorf("the report is %q", got)
	}
}

// The failure is reported even where the store stays away.
func TestAFailureDoesNotWaitForTheStore(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	p.putFailures = 1 << 30
	p.assign(shell(1, `echo x > ../out/r; printf '{"status":"error","error":{"class":"bad_input","code":"BAD"},"artifacts":{"r":"r"}}' > "$TUNEMESH_RESULT"; exit 1`))
	c := config(dir)
	c.LeftoverPatience = 200 * time.Millisecond
	run(t, p, c)
	if r := p.ended(1); r.Error == nil || r.Error.Code != "BAD" || len(r.Artifacts) != 0 {
		t.Errorf("report %+v", r)
	}
}

func TestAKilledTrainerHasCrashed(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	p.assign(builtin(43, `{"lines":1000,"pause_ms":20}`))
	run(t, p, config(dir))
	_, child := processes(t, dir, 43)
	p.until("it prints", func() bool { return len(p.events[43]) > 3 })
	if err := syscall.Kill(child, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if r := p.ended(43); r.State != api.AttemptFailed || r.Error.Class != "crashed" || !strings.Contains(r.Error.Message, "SIGKILL") {
		t.Errorf("report %+v %+v", r, r.Error)
	}
}

func TestAKilledShimIsNoticedAndItsStageIsGone(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	p.assign(builtin(44, `{"lines":1000,"pause_ms":20}`))
	run(t, p, config(dir))
	shim, child := processes(t, dir, 44)
	if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if r := p.ended(44); r.State != api.AttemptFailed || r.Error.Code != "VANISHED" || !r.Error.Retryable {
		t.Errorf("report %+v %+v", r, r.Error)
	}
	gone(t, child)
}

// An agent that ends without its stages, as at an upgrade: the next one goes on
// with the same process, and no line is lost or doubled.
func TestANewAgentTakesTheStageOver(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	p.assign(builtin(45, `{"lines":120,"pause_ms":15}`))
	end := run(t, p, config(dir))
	_, child := processes(t, dir, 45)
	for i := range 3 {
		p.until("lines arrive", func() bool { return len(p.events[45]) > 10+20*i })
		end()
		time.Sleep(60 * time.Millisecond)
		end = run(t, p, config(dir))
	}
	if _, now := processes(t, dir, 45); now != child {
		t.Error("the stage was started again")
	}
	if r := p.ended(45); r.State != api.AttemptSucceeded {
		t.Errorf("report %+v %+v", r, r.Error)
	}
	if got := p.messages(45); !slices.Equal(got, counted(1, 120)) {
		t.Errorf("events %q", got)
	}
}

// The same with kill -9 on an agent in another process, over HTTP.
func TestAKilledAgentIsReplaced(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	srv := httptest.NewServer(p.handler())
	defer srv.Close()
	start := func() *exec.Cmd {
		exe, _ := os.Executable()
		cmd := exec.Command(exe, "agent", dir, srv.URL)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	kill := func(cmd *exec.Cmd) { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	p.assign(builtin(46, `{"lines":100,"pause_ms":15,"every":40}`))
	agent := start()
	_, child := processes(t, dir, 46)
	p.until("lines arrive", func() bool { return len(p.events[46]) > 10 })
	kill(agent)
	agent = start()
	p.until("more lines arrive", func() bool { return len(p.events[46]) > 50 })
	kill(agent)
	gone(t, child) // it ends by itself, while no agent is there
	agent = start()
	defer func() { kill(agent) }()
	if r := p.ended(46); r.State != api.AttemptSucceeded || len(r.Artifacts) != 3 {
		t.Errorf("report %+v %+v", r, r.Error)
	}
	want := slices.Concat(counted(1, 40), []string{"saved"}, counted(41, 80), []string{"saved"}, counted(81, 100))
	if got := p.messages(46); !slices.Equal(got, want) {
		t.Errorf("events %q", got)
	}
	p.until("both checkpoints are known", func() bool { return len(p.checkpoints[46]) >= 2 })
	srv.CloseClientConnections()
}

// Shim and stage were killed while no agent was there.
func TestAVanishedStageIsReported(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	p.assign(builtin(47, `{"lines":1000,"pause_ms":20}`))
	end := run(t, p, config(dir))
	shim, child := processes(t, dir, 47)
	p.until("it runs", func() bool { return len(p.reports[47]) > 0 })
	end()
	if err := syscall.Kill(shim, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	gone(t, child)
	run(t, p, config(dir))
	if r := p.ended(47); r.State != api.AttemptFailed || r.Error.Class != "interrupted" || r.Error.Code != "VANISHED" {
		t.Errorf("report %+v %+v", r, r.Error)
	}
}

func TestAStaleAttemptIsStoppedAndForgotten(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	p.assign(builtin(48, `{"lines":1000,"pause_ms":20}`))
	run(t, p, config(dir))
	_, child := processes(t, dir, 48)
	p.until("it runs", func() bool { return len(p.reports[48]) > 0 })
	p.makeStale(48)
	gone(t, child)
	cleared(t, dir, 48)
	if r := p.reports[48]; len(r) != 1 {
		t.Errorf("reports %+v", r)
	}
}

func TestACancelledAttemptIsStoppedAndSaysSo(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	p.assign(builtin(49, `{"lines":1000,"pause_ms":20}`))
	run(t, p, config(dir))
	_, child := processes(t, dir, 49)
	p.until("it runs", func() bool { return len(p.reports[49]) > 0 })
	p.withdraw(49)
	if r := p.ended(49); r.State != api.AttemptCancelled || r.Error.Code != "CANCELLED" {
		t.Errorf("report %+v %+v", r, r.Error)
	}
	gone(t, child)
	cleared(t, dir, 49)
}

func TestCheckpointsAreUploadedAndRestoredOnAnotherNode(t *testing.T) {
	p := newPlane(t)
	p.assign(builtin(50, `{"lines":1000,"pause_ms":20,"every":5}`))
	c := config(t.TempDir())
	c.StopStagesOnExit = true
	end := run(t, p, c)
	p.until("a checkpoint is known", func() bool { return len(p.checkpoints[50]) >= 1 })
	end() // the stage saves once more
	r := p.ended(50)
	if r.State != api.AttemptFailed || r.Error.Class != "interrupted" {
		t.Fatalf("report %+v %+v", r, r.Error)
	}
	kept := p.checkpoints[50]
	newest := kept[len(kept)-1]
	reached, err := strconv.Atoi(strings.TrimPrefix(newest.Name, "step_"))
	if err != nil || len(newest.Files) != 1 || newest.Files[0].Name != "state" || p.object(newest.Files[0].Key) != strconv.Itoa(reached) {
		t.Fatalf("checkpoint %+v", newest)
	}
	if lines := p.messages(50); lines[len(lines)-2] != "saved" {
		t.Errorf("the last checkpoint, of the farewell, is missing from %q", lines[len(lines)-3:])
	}
	next := builtin(51, fmt.Sprintf(`{"lines":%d}`, reached+3))
	files := slices.Clone(newest.Files)
	files[0].URL = p.store.URL + "/" + files[0].Key
	next.Checkpoint = &api.Checkpoint{Name: newest.Name, Fence: 50, Files: files}
	p.assign(next)
	run(t, p, config(t.TempDir()))
	if r := p.ended(51); r.State != api.AttemptSucceeded || !strings.Contains(string(r.Output), fmt.Sprintf(`"began_at":%d`, reached)) {
		t.Errorf("report %+v %s", r, r.Output)
	}
}

// The same node tries again: its own folder is newer than anything uploaded.
func TestALocalCheckpointIsFoundAgain(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	p.assign(builtin(52, `{"lines":1000,"pause_ms":20}`))
	end := run(t, p, config(dir))
	_, child := processes(t, dir, 52)
	p.until("it prints", func() bool { return len(p.events[52]) > 3 })
	p.assign(builtin(53, `{"lines":1}`)) // the older attempt must end first
	r := p.ended(53)
	gone(t, child)
	if r.State != api.AttemptSucceeded || strings.Contains(string(r.Output), `"began_at":0,`) {
		t.Errorf("report %+v %s", r, r.Output)
	}
	end()
}

func TestNothingIsLostWhileTheControlPlaneIsAway(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	p.ackLost = 3
	p.assign(builtin(54, `{"lines":60,"pause_ms":10}`))
	run(t, p, config(dir))
	_, child := processes(t, dir, 54)
	p.until("lines arrive", func() bool { return len(p.events[54]) > 5 })
	p.setDown(true)
	gone(t, child)
	time.Sleep(100 * time.Millisecond)
	p.setDown(false)
	if r := p.ended(54); r.State != api.AttemptSucceeded {
		t.Errorf("report %+v %+v", r, r.Error)
	}
	if got := p.messages(54); !slices.Equal(got, counted(1, 60)) {
		t.Errorf("events %q", got)
	}
}

// The event log came back empty after a failure: the spool still has all.
func TestLinesThatTheServerLostAreSentAgain(t *testing.T) {
	p := newPlane(t)
	p.assign(builtin(55, `{"lines":60,"pause_ms":10}`))
	run(t, p, config(t.TempDir()))
	p.until("lines arrive", func() bool { return len(p.events[55]) > 20 })
	p.mu.Lock()
	p.events[55] = p.events[55][:4]
	p.mu.Unlock()
	p.ended(55)
	if got := p.messages(55); !slices.Equal(got, counted(1, 60)) {
		t.Errorf("events %q", got)
	}
}

func TestOneRefusedLineDoesNotHoldUpTheOthers(t *testing.T) {
	p := newPlane(t)
	p.assign(shell(56, `seq 1 100; echo REFUSE ME; seq 101 700; `+succeed))
	run(t, p, config(t.TempDir()))
	if r := p.ended(56); r.State != api.AttemptSucceeded {
		t.Errorf("report %+v %+v", r, r.Error)
	}
	got := p.messages(56)
	if len(got) != 701 || got[99] != "100" || got[101] != "101" || p.events[56][100].ErrorCode != "EVENT_REFUSED" {
		t.Errorf("%d events", len(got))
	}
}

func TestALeaseThatRanOutStopsTheStage(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	p.ttl = 300 * time.Millisecond
	p.assign(builtin(57, `{"lines":100000,"pause_ms":20}`))
	run(t, p, config(dir))
	_, child := processes(t, dir, 57)
	p.until("it runs", func() bool { return len(p.reports[57]) > 0 })
	p.setDown(true)
	gone(t, child)
	p.setDown(false)
	if r := p.ended(57); r.State != api.AttemptFailed || r.Error.Code != "DISCONNECTED" {
		t.Errorf("report %+v %+v", r, r.Error)
	}
}

func TestANodeRegistersAgainWhenItIsForgotten(t *testing.T) {
	p := newPlane(t)
	c := config(t.TempDir())
	run(t, p, c)
	p.until("it is registered", func() bool { return len(p.regs) == 1 && len(p.beats) > 0 })
	p.mu.Lock()
	p.regs = nil
	p.mu.Unlock()
	p.until("it is registered again", func() bool { return len(p.regs) > 0 })
	id, err := nodeagent.LoadIdentity(c.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if r := p.regs[0]; string(r.PublicKey) != string(id.Public()) || r.Name != "test" || r.Protocol != api.ProtocolVersion || r.Digest == "" || r.Capability.Launchers[0] != "local" {
		t.Errorf("registration %+v", r)
	}
}

// A GPU that appears is told without a restart.
func TestANewCapabilityIsRegistered(t *testing.T) {
	p, c := newPlane(t), config(t.TempDir())
	looks := 0
	c.DetectInterval = 20 * time.Millisecond
	c.Detect = func(context.Context, string) api.Capability {
		looks++ // one goroutine at a time
		if looks < 4 {
			return api.Capability{OS: "test"}
		}
		return api.Capability{OS: "test", GPUs: []api.GPU{{Name: "new"}}}
	}
	run(t, p, c)
	p.until("it is registered twice", func() bool { return len(p.regs) == 2 })
	if a, b := p.regs[0], p.regs[1]; len(a.Capability.GPUs) != 0 || len(b.Capability.GPUs) != 1 || a.Digest == b.Digest {
		t.Errorf("registrations %+v", p.regs)
	}
}

// The agent died after the start and before it had written the handle down.
func TestAStartThatWasNotWrittenDownIsFoundAgain(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	p.assign(builtin(60, `{"lines":60,"pause_ms":15}`))
	end := run(t, p, config(dir))
	_, child := processes(t, dir, 60)
	p.until("it runs", func() bool { return len(p.events[60]) > 5 })
	end()
	edit(t, filepath.Join(dir, "attempts", "60", "record.json"), func(r map[string]any) {
		r["phase"] = "prepare"
		delete(r, "handle")
		delete(r, "launched_at")
	})
	run(t, p, config(dir))
	if _, now := processes(t, dir, 60); now != child {
		t.Error("the stage was started again")
	}
	if r := p.ended(60); r.State != api.AttemptSucceeded {
		t.Errorf("report %+v %+v", r, r.Error)
	}
	if got := p.messages(60); !slices.Equal(got, counted(1, 60)) {
		t.Errorf("events %q", got)
	}
}

// The agent died before the start: the attempt begins when it is assigned
// again, and not from the disk alone.
func TestAnAttemptThatWasNeverStartedBeginsOnlyIfItIsStillWanted(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	for _, fence := range []string{"61", "62"} {
		path := filepath.Join(dir, "attempts", fence)
		if err := os.MkdirAll(filepath.Join(path, "launch"), 0o755); err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprintf(`{"version":1,"phase":"prepare","assignment":{"fence":%s,"job_id":"01JOB","stage":{"name":"training","kind":"training"}}}`, fence)
		if err := os.WriteFile(filepath.Join(path, "record.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p.assign(builtin(62, `{"lines":3}`))
	run(t, p, config(dir))
	if r := p.ended(62); r.State != api.AttemptSucceeded {
		t.Errorf("report %+v %+v", r, r.Error)
	}
	cleared(t, dir, 61)
	if len(p.reports[61]) > 0 || len(p.events[61]) > 0 {
		t.Errorf("attempt 61 was run: %+v", p.reports[61])
	}
}

// An answer that was on its way when the attempt was reported still names it.
func TestAReportedAttemptIsNotBegunAgain(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	as := shell(64, `echo ran; `+succeed)
	p.assign(as)
	run(t, p, config(dir))
	p.ended(64)
	cleared(t, dir, 64)
	p.assign(as)
	time.Sleep(300 * time.Millisecond)
	if _, err := os.Stat(filepath.Join(dir, "attempts", "64")); err == nil || len(p.reports[64]) != 2 {
		t.Errorf("it was begun again: %+v", p.reports[64])
	}
}

func edit(t *testing.T, path string, change func(map[string]any)) {
	t.Helper()
	var doc map[string]any
	data, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(data, &doc)
	}
	if err == nil {
		change(doc)
		data, err = json.Marshal(doc)
	}
	if err == nil {
		err = os.WriteFile(path, data, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestACancelDuringADownloadEndsIt(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	file := p.put("slow", []byte("x"))
	asked, release := make(chan struct{}, 8), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer slow.Close()
	defer close(release)
	file.URL = slow.URL
	as := shell(63, succeed)
	as.Inputs = []api.StageArtifact{{Stage: "source", Artifact: file}}
	p.assign(as)
	run(t, p, config(dir))
	<-asked
	p.mu.Lock()
	p.reports[63] = append(p.reports[63], api.AttemptReport{State: api.AttemptRunning}) // so that the fake still hears it
	p.mu.Unlock()
	p.withdraw(63)
	if r := p.ended(63); r.State != api.AttemptCancelled {
		t.Errorf("report %+v %+v", r, r.Error)
	}
	cleared(t, dir, 63)
}

func TestOldJobsAreClearedAway(t *testing.T) {
	p, c := newPlane(t), config(t.TempDir())
	c.KeepJobs = time.Hour
	for name, age := range map[string]time.Duration{"old": 2 * time.Hour, "young": time.Minute} {
		dir := filepath.Join(c.Dir, "jobs", name)
		if err := os.MkdirAll(filepath.Join(dir, "checkpoints"), 0o755); err != nil {
			t.Fatal(err)
		}
		then := time.Now().Add(-age)
		if err := os.Chtimes(dir, then, then); err != nil {
			t.Fatal(err)
		}
	}
	run(t, p, c)
	for range 500 {
		if _, err := os.Stat(filepath.Join(c.Dir, "jobs", "old")); os.IsNotExist(err) {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	var left []string
	entries, _ := os.ReadDir(filepath.Join(c.Dir, "jobs"))
	for _, e := range entries {
		left = append(left, e.Name())
	}
	if got := fmt.Sprint(left); got != "[young]" {
		t.Errorf("left %s", got)
	}
}

func TestASecondAgentOnTheDirectoryIsRefused(t *testing.T) {
	p, dir := newPlane(t), t.TempDir()
	run(t, p, config(dir))
	p.until("it is registered", func() bool { return len(p.regs) > 0 })
	a, err := nodeagent.New(config(dir), p)
	if err != nil {
		t.Fatal(err)
	}
	if err := a.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "another agent") {
		t.Errorf("Run = %v", err)
	}
}

var _ nodeagent.ControlPlane = (*client.Client)(nil)
