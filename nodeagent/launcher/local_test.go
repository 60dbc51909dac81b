//go:build linux

package launcher_test

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tunemesh/tunemesh/nodeagent/launcher"
)

// The test binary is its own shim, as the tunemesh binary is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "shim" {
		os.Exit(launcher.ShimMain(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

type launched struct {
	t      *testing.T
	l      *launcher.Local
	handle launcher.Handle
	dir    string
	output string
}

func spec(t *testing.T, script string) launcher.Spec {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "launch")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	stdin := filepath.Join(root, "stdin")
	if err := os.WriteFile(stdin, []byte("the input\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	return launcher.Spec{
		Dir: dir, Argv: []string{"sh", "-c", script}, Env: []string{"PATH=" + os.Getenv("PATH")},
		WorkDir: root, Stdin: stdin, Output: filepath.Join(root, "events.log"), Niceness: 5, OOMScoreAdj: 300,
	}
}

func local(t *testing.T) *launcher.Local {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return launcher.NewLocal(exe)
}

func start(t *testing.T, script string) launched {
	t.Helper()
	s, l := spec(t, script), local(t)
	h, err := l.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	return launched{t, l, h, s.Dir, s.Output}
}

func (x launched) wait() launcher.Exit {
	x.t.Helper()
	ctx, cancel := context.WithTimeout(x.t.Context(), 10*time.Second)
	defer cancel()
	exit, err := x.l.Wait(ctx, x.handle)
	if err != nil {
		x.t.Fatal(err)
	}
	return exit
}

func (x launched) shimPID() int {
	x.t.Helper()
	var c struct{ PID int }
	data, err := os.ReadFile(filepath.Join(x.dir, "shim.json"))
	if err == nil {
		err = json.Unmarshal(data, &c)
	}
	if err != nil {
		x.t.Fatal(err)
	}
	return c.PID
}

// waitOutput waits until the output holds n lines, and returns them.
func (x launched) waitOutput(n int) []string {
	x.t.Helper()
	for range 500 {
		data, _ := os.ReadFile(x.output)
		if lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n"); len(data) > 0 && len(lines) >= n {
			return lines
		}
		time.Sleep(10 * time.Millisecond)
	}
	x.t.Fatalf("output never held %d lines", n)
	return nil
}

func pid(t *testing.T, s string) int {
	t.Helper()
	n, err := strconv.Atoi(strings.TrimSpace(s))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func dead(t *testing.T, pid int) {
	t.Helper()
	for range 300 {
		data, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil || strings.Contains(string(data), ") Z ") {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("process %d still runs", pid)
}

func TestACommandGetsItsInputAndBothStreamsAreKept(t *testing.T) {
	x := start(t, `cat; echo err >&2; echo nice $(nice); cat /proc/self/oom_score_adj; exit 7`)
	exit := x.wait()
	if exit.Code != 7 || exit.Signal != "" || exit.Stopped || exit.Gone || exit.MaxRSS <= 0 {
		t.Errorf("exit = %+v", exit)
	}
	if got, want := strings.Join(x.waitOutput(4), "|"), "the input|err|nice 5|300"; got != want {
		t.Errorf("output %q, want %q", got, want)
	}
	if status, err := x.l.Recover(x.handle); status != launcher.StatusExited || err != nil {
		t.Errorf("Recover = %v, %v", status, err)
	}
}

func TestAMissingProgramIsAStartError(t *testing.T) {
	s, l := spec(t, ""), local(t)
	s.Argv = []string{"no-such-program-anywhere"}
	h, err := l.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	exit := launched{t, l, h, s.Dir, s.Output}.wait()
	if !strings.Contains(exit.StartError, "no-such-program-anywhere") {
		t.Errorf("exit = %+v", exit)
	}
}

func TestStopAsksFirstAndKillsAfterTheGrace(t *testing.T) {
	polite := start(t, `trap 'echo saved; exit 3' TERM; echo up; while :; do sleep 0.02; done`)
	polite.waitOutput(1)
	if err := polite.l.Stop(polite.handle, 5*time.Second); err != nil {
		t.Fatal(err)
	}
	if exit := polite.wait(); exit.Code != 3 || !exit.Stopped {
		t.Errorf("polite: %+v", exit)
	}
	if lines := polite.waitOutput(2); !slices.Contains(lines, "saved") {
		t.Errorf("polite: %q", lines)
	}
	deaf := start(t, `trap '' TERM; echo up; while :; do sleep 0.02; done`)
	deaf.waitOutput(1)
	begin := time.Now()
	if err := deaf.l.Stop(deaf.handle, 300*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if exit := deaf.wait(); exit.Signal != "SIGKILL" || !exit.Stopped || exit.OOMKilled {
		t.Errorf("deaf: %+v", exit)
	}
	if took := time.Since(begin); took < 300*time.Millisecond {
		t.Errorf("killed after %v, before the grace", took)
	}
}

func TestWhatACommandLeavesBehindEndsWithIt(t *testing.T) {
	x := start(t, `sleep 300 & echo $!; exit 0`)
	if exit := x.wait(); exit.Code != 0 || exit.Signal != "" {
		t.Errorf("exit = %+v", exit)
	}
	dead(t, pid(t, x.waitOutput(1)[0]))
}

func TestAKilledShimTakesTheCommandWithIt(t *testing.T) {
	x := start(t, `sleep 300 & echo $!; echo $$; wait`)
	lines := x.waitOutput(2)
	if err := syscall.Kill(x.shimPID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if exit := x.wait(); !exit.Gone || !exit.SameBoot {
		t.Errorf("exit = %+v", exit)
	}
	dead(t, pid(t, lines[1]))
	dead(t, pid(t, lines[0])) // the grandchild, which no kernel feature reaches
}

// An agent that died is replaced: another launcher, which forked nothing, finds
// the command by its directory and by its handle.
func TestAnotherLauncherRecoversTheCommand(t *testing.T) {
	x := start(t, `echo up; read line; while [ ! -e go ]; do sleep 0.02; done; exit 4`)
	x.waitOutput(1)
	other := local(t)
	found, err := other.Find(x.dir)
	if err != nil {
		t.Fatal(err)
	}
	if status, err := other.Recover(found); status != launcher.StatusRunning || err != nil {
		t.Fatalf("Recover = %v, %v", status, err)
	}
	if err := os.WriteFile(filepath.Join(filepath.Dir(x.dir), "go"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	x.handle, x.l = found, other
	if exit := x.wait(); exit.Code != 4 {
		t.Errorf("exit = %+v", exit)
	}
}

// A number that was used again must not be signalled: here the handle names a
// living process, but with another start time.
func TestAReusedPIDIsNeitherAliveNorSignalled(t *testing.T) {
	bystander := exec.Command("sleep", "300")
	if err := bystander.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = bystander.Process.Kill(); _ = bystander.Wait() }()
	time.Sleep(30 * time.Millisecond) // start times are in ticks of 10 ms
	x := start(t, `exit 0`)
	x.wait()
	var data map[string]any
	if err := json.Unmarshal(x.handle.Data, &data); err != nil {
		t.Fatal(err)
	}
	data["pid"] = bystander.Process.Pid
	x.handle.Data, _ = json.Marshal(data)
	if err := os.Remove(filepath.Join(x.dir, "exit.json")); err != nil {
		t.Fatal(err)
	}
	if status, err := x.l.Recover(x.handle); status != launcher.StatusGone || err != nil {
		t.Errorf("Recover = %v, %v", status, err)
	}
	if err := x.l.Kill(x.handle); err != nil {
		t.Error(err)
	}
	if exit := x.wait(); !exit.Gone {
		t.Errorf("exit = %+v", exit)
	}
	if err := bystander.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the bystander was hit: %v", err)
	}
	data["boot_id"] = "another"
	x.handle.Data, _ = json.Marshal(data)
	if exit := x.wait(); !exit.Gone || exit.SameBoot {
		t.Errorf("after a reboot: %+v", exit)
	}
}

// An agent that died between its intent and the shim's claim: Find decides, and
// a shim that comes up later starts nothing.
func TestAnUnclaimedStartIsCalledOffForGood(t *testing.T) {
	s, l := spec(t, `echo ran`), local(t)
	if _, err := l.Find(s.Dir); !errors.Is(err, launcher.ErrNotStarted) {
		t.Fatalf("Find = %v", err)
	}
	if _, err := l.Start(t.Context(), s); err == nil {
		t.Fatal("a start in a directory that was called off succeeded")
	}
	if _, err := os.Stat(s.Output); err == nil {
		t.Error("the command ran")
	}
	if _, err := l.Find(s.Dir); !errors.Is(err, launcher.ErrNotStarted) {
		t.Errorf("Find = %v", err)
	}
}

func TestAHandleOfAnotherKindIsRefused(t *testing.T) {
	l := local(t)
	for _, h := range []launcher.Handle{{Launcher: "nomad", Version: 1}, {Launcher: "local", Version: 99}, {Launcher: "local", Version: 1, Data: json.RawMessage(`[]`)}} {
		if _, err := l.Recover(h); err == nil {
			t.Errorf("%+v was accepted", h)
		}
	}
}
