//go:build linux || darwin

package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Local starts commands on this machine, each under a shim of its own session,
// so that an agent can be killed and replaced while they run.
type Local struct {
	executable string
	poll       time.Duration

	mu sync.Mutex
	// children are shims that this process forked and has not reaped. Only
	// those may be waited for: another child with the number is not ours.
	children map[int]bool
}

// NewLocal returns a launcher whose shim is "executable shim DIR".
func NewLocal(executable string) *Local {
	return &Local{executable: executable, poll: 30 * time.Millisecond, children: map[int]bool{}}
}

// Name implements Launcher.
func (l *Local) Name() string { return "local" }

// localHandle is what is inside a Handle.
type localHandle struct {
	Dir string `json:"dir"`
	claim
}

// Start implements Launcher.
func (l *Local) Start(ctx context.Context, spec Spec) (Handle, error) {
	spec.Env = append(slices.Clone(spec.Env), EnvLaunch+"="+spec.Dir)
	if err := writeJSON(filepath.Join(spec.Dir, specFile), spec); err != nil {
		return Handle{}, err
	}
	log, err := os.OpenFile(filepath.Join(spec.Dir, logFile), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return Handle{}, fmt.Errorf("launcher: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(l.executable, "shim", spec.Dir)
	cmd.Dir = spec.Dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.Env = spec.Env // the shim needs none of the agent's secrets either
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return Handle{}, fmt.Errorf("launcher: start the shim: %w", err)
	}
	pid := cmd.Process.Pid
	l.mu.Lock()
	l.children[pid] = true
	l.mu.Unlock()
	_ = cmd.Process.Release() // it is reaped by number, in reap

	deadline := time.Now().Add(15 * time.Second)
	for {
		if c, err := readClaim(spec.Dir); err == nil && (c.Child != 0 || l.ended(spec.Dir)) {
			return newHandle(spec.Dir, c)
		}
		if l.reap(pid) {
			// Find's answer is final now; a claimed start that came no further
			// is a handle too, and Wait tells that it is gone.
			h, err := l.Find(spec.Dir)
			if err != nil {
				tail, _ := os.ReadFile(filepath.Join(spec.Dir, logFile))
				err = fmt.Errorf("%w: the shim said: %s", err, lastBytes(tail, 500))
			}
			return h, err
		}
		if ctx.Err() != nil || time.Now().After(deadline) {
			if h, err := l.Find(spec.Dir); err == nil {
				return h, nil // it claimed at the last moment
			}
			return Handle{}, errors.Join(ctx.Err(), errors.New("launcher: the shim did not start in time"))
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (l *Local) ended(dir string) bool {
	_, ok, err := readExit(dir)
	return ok && err == nil
}

// Find implements Launcher. A directory without a claim gets a tombstone: a
// shim that is only now coming up finds it and ends.
func (l *Local) Find(dir string) (Handle, error) {
	c, err := readClaim(dir)
	if errors.Is(err, fs.ErrNotExist) {
		err = takeClaim(dir, claim{Version: handleVersion, Tombstone: true, At: time.Now().UTC()})
		if errors.Is(err, fs.ErrExist) {
			c, err = readClaim(dir)
		} else if err == nil {
			return Handle{}, ErrNotStarted
		}
	}
	if err != nil {
		return Handle{}, fmt.Errorf("launcher: look into %s: %w", dir, err)
	}
	if c.Tombstone {
		return Handle{}, ErrNotStarted
	}
	return newHandle(dir, c)
}

func newHandle(dir string, c claim) (Handle, error) {
	data, err := json.Marshal(localHandle{Dir: dir, claim: c})
	if err != nil {
		return Handle{}, fmt.Errorf("launcher: %w", err)
	}
	return Handle{Launcher: "local", Version: handleVersion, Data: data}, nil
}

func (l *Local) open(h Handle) (localHandle, error) {
	var in localHandle
	if h.Launcher != "local" || h.Version != handleVersion {
		return in, fmt.Errorf("launcher: handle of %q version %d is not for the local launcher version %d", h.Launcher, h.Version, handleVersion)
	}
	if err := json.Unmarshal(h.Data, &in); err != nil {
		return in, fmt.Errorf("launcher: handle: %w", err)
	}
	return in, nil
}

// Recover implements Launcher.
func (l *Local) Recover(h Handle) (Status, error) {
	in, err := l.open(h)
	if err != nil {
		return "", err
	}
	l.reap(in.PID)
	// Life is looked at before the record: the shim writes the record and then
	// ends, so the other order could miss both.
	running := l.alive(in)
	if _, ok, err := readExit(in.Dir); err != nil || ok {
		return StatusExited, err
	}
	if running {
		return StatusRunning, nil
	}
	return StatusGone, nil
}

// Wait implements Launcher.
func (l *Local) Wait(ctx context.Context, h Handle) (Exit, error) {
	in, err := l.open(h)
	if err != nil {
		return Exit{}, err
	}
	ticker := time.NewTicker(l.poll)
	defer ticker.Stop()
	for {
		status, err := l.Recover(h)
		if err != nil {
			return Exit{}, err
		}
		switch status {
		case StatusExited:
			exit, _, err := readExit(in.Dir)
			return exit, err
		case StatusGone:
			sweep(in) // a stage does not outlive its shim, not even its grandchildren
			return Exit{Gone: true, SameBoot: in.BootID == bootID(), StartedAt: in.At, EndedAt: time.Now().UTC()}, nil
		}
		select {
		case <-ctx.Done():
			return Exit{}, ctx.Err()
		case <-ticker.C:
		}
	}
}

// Stop implements Launcher.
func (l *Local) Stop(h Handle, grace time.Duration) error {
	in, err := l.open(h)
	if err != nil {
		return err
	}
	// The shim reads the grace when the signal comes.
	tmp := filepath.Join(in.Dir, graceFile+".tmp")
	if err := os.WriteFile(tmp, []byte(grace.String()), 0o640); err != nil {
		return fmt.Errorf("launcher: stop: %w", err)
	}
	if err := os.Rename(tmp, filepath.Join(in.Dir, graceFile)); err != nil {
		return fmt.Errorf("launcher: stop: %w", err)
	}
	if !l.alive(in) {
		return nil
	}
	return ignoreGone(unix.Kill(in.PID, unix.SIGTERM))
}

// Kill implements Launcher. It goes through the shim, so that a record of the
// end is written.
func (l *Local) Kill(h Handle) error { return l.Stop(h, 0) }

func ignoreGone(err error) error {
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// alive says whether the shim runs: the same boot, the same number, the same
// start time. A number alone is nobody's name.
func (l *Local) alive(in localHandle) bool {
	if in.PID <= 0 || in.BootID != bootID() {
		return false
	}
	start, err := startTime(in.PID)
	return err == nil && start == in.Start
}

// reap takes the exit status of a shim that this process forked; it says
// whether the shim has ended and was ours.
func (l *Local) reap(pid int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.children[pid] {
		return false
	}
	var ws unix.WaitStatus
	got, err := unix.Wait4(pid, &ws, unix.WNOHANG, nil)
	if got == pid || errors.Is(err, unix.ECHILD) {
		delete(l.children, pid)
		return true
	}
	return false
}

func lastBytes(b []byte, n int) string {
	if len(b) > n {
		b = b[len(b)-n:]
	}
	return string(b)
}
