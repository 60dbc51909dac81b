//go:build linux || darwin

package launcher

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tunemesh/tunemesh/failpoint"
)

// Files in Spec.Dir. The claim is made with link(2), so that exactly one of the
// shim and an agent that gives up on it wins.
const (
	specFile  = "launch.json" // written by the agent: what to start, and the grace
	claimFile = "shim.json"   // written by the shim: who it is; or a tombstone
	exitFile  = "exit.json"   // written by the shim as its last act
	logFile   = "shim.log"
	graceFile = "grace" // written by Stop: seconds until SIGKILL
)

const handleVersion = 1

// defaultGrace holds when a shim is sent SIGTERM by somebody else than Stop.
const defaultGrace = 20 * time.Second

// claim says which process watches over the command.
type claim struct {
	Version   int    `json:"version"`
	Tombstone bool   `json:"tombstone,omitempty"`
	PID       int    `json:"pid"`
	Start     string `json:"start"` // the kernel's start time of PID
	BootID    string `json:"boot_id"`
	// Child is the command's process and group, 0 before it is started. It is
	// not in the claim itself but in the second write of the file.
	Child      int       `json:"child,omitempty"`
	ChildStart string    `json:"child_start,omitempty"`
	At         time.Time `json:"at"`
}

// ShimMain is the hidden subcommand "shim DIR": it starts the command that the
// directory's launch.json describes, outlives the agent, and writes down how
// the command ended. It returns the exit code of the shim itself.
func ShimMain(args []string) int {
	if len(args) != 1 {
		fmt.Fprintln(os.Stderr, "shim: want one argument, the directory of a launch; this command is run by the node agent only")
		return 2
	}
	if err := runShim(args[0]); err != nil {
		fmt.Fprintf(os.Stderr, "shim: %v\n", err)
		return 1
	}
	return 0
}

func runShim(dir string) error {
	// The kernel sends the parent-death signal when the *thread* that forked
	// ends, so this goroutine keeps its thread until the command has ended.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	// Signals are taken before anything is started: none may hit the default.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)

	data, err := os.ReadFile(filepath.Join(dir, specFile))
	if err != nil {
		return fmt.Errorf("read the launch: %w", err)
	}
	var spec Spec
	if err := json.Unmarshal(data, &spec); err != nil {
		return fmt.Errorf("read the launch: %w", err)
	}
	self := os.Getpid()
	start, err := startTime(self)
	if err != nil {
		return fmt.Errorf("own start time: %w", err)
	}
	me := claim{Version: handleVersion, PID: self, Start: start, BootID: bootID(), At: time.Now().UTC()}
	if err := takeClaim(dir, me); err != nil {
		return err // an agent gave up on this start, or a second shim
	}
	protectShim()
	_ = failpoint.At(failpoint.ClaimUnused)

	exit := Exit{StartedAt: time.Now().UTC()}
	cmd, err := startCommand(spec)
	if err != nil {
		exit.StartError = err.Error()
		exit.EndedAt = time.Now().UTC()
		return writeJSON(filepath.Join(dir, exitFile), exit)
	}
	_ = failpoint.At(failpoint.ChildUnrecorded)
	me.Child = cmd.Process.Pid
	me.ChildStart, _ = startTime(me.Child)
	if err := writeJSON(filepath.Join(dir, claimFile), me); err != nil {
		_ = unix.Kill(-me.Child, unix.SIGKILL)
		return err
	}
	oomBefore := oomKills()
	stopped := &atomic.Bool{}
	done := make(chan struct{})
	forwarded := make(chan struct{})
	go func() {
		defer close(forwarded)
		forward(dir, me.Child, signals, stopped, done)
	}()
	awaitExit(me.Child)
	close(done)
	<-forwarded
	// The command is a zombie still, so its group's number cannot be anybody
	// else's: end what it left behind, then reap it.
	_ = unix.Kill(-me.Child, unix.SIGKILL)
	describe(&exit, cmd)
	exit.Stopped = stopped.Load()
	exit.OOMKilled = exit.Signal == "SIGKILL" && !exit.Stopped && oomKills() > oomBefore
	exit.EndedAt = time.Now().UTC()
	_ = failpoint.At(failpoint.ExitUnrecorded)
	return writeJSON(filepath.Join(dir, exitFile), exit)
}

func startCommand(spec Spec) (*exec.Cmd, error) {
	if len(spec.Argv) == 0 {
		return nil, errors.New("no command given")
	}
	in, err := os.Open(spec.Stdin)
	if err != nil {
		return nil, fmt.Errorf("standard input: %w", err)
	}
	defer in.Close()
	// O_APPEND on one shared description: lines of both streams stay whole.
	out, err := os.OpenFile(spec.Output, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return nil, fmt.Errorf("output: %w", err)
	}
	defer out.Close()
	path, err := lookPath(spec)
	if err != nil {
		return nil, err
	}
	cmd := &exec.Cmd{Path: path, Args: spec.Argv, Env: spec.Env, Dir: spec.WorkDir, Stdin: in, Stdout: out, Stderr: out, SysProcAttr: childAttributes()}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Argv[0], err)
	}
	soften(cmd.Process.Pid, spec)
	return cmd, nil
}

// forward turns SIGTERM to the shim into SIGTERM to the command's group, and
// into SIGKILL after the grace.
func forward(dir string, group int, signals <-chan os.Signal, stopped *atomic.Bool, done <-chan struct{}) {
	var deadline <-chan time.Time
	for {
		select {
		case s := <-signals:
			if s == syscall.SIGHUP { // the terminal is gone: no reason to stop
				continue
			}
			grace := readGrace(dir)
			stopped.Store(true)
			if grace > 0 {
				_ = unix.Kill(-group, unix.SIGTERM)
				deadline = time.After(grace)
				continue
			}
			_ = unix.Kill(-group, unix.SIGKILL)
		case <-deadline:
			_ = unix.Kill(-group, unix.SIGKILL)
		case <-done:
			return
		}
	}
}

func readGrace(dir string) time.Duration {
	data, err := os.ReadFile(filepath.Join(dir, graceFile))
	if err != nil {
		return defaultGrace
	}
	d, err := time.ParseDuration(string(data))
	if err != nil {
		return defaultGrace
	}
	return d
}

func describe(exit *Exit, cmd *exec.Cmd) {
	_ = cmd.Wait() // how it ended stands in ProcessState
	state := cmd.ProcessState
	if state == nil {
		exit.Gone = true
		return
	}
	exit.Code = state.ExitCode()
	if ws, ok := state.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		exit.Signal = unix.SignalName(ws.Signal())
	}
	if usage, ok := state.SysUsage().(*syscall.Rusage); ok {
		exit.MaxRSS = int64(usage.Maxrss)
		if runtime.GOOS == "linux" {
			exit.MaxRSS *= 1024 // kilobytes there, bytes on macOS
		}
	}
}
