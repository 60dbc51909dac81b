package artifacts

import (
	"context"
	"encoding/json"
	"log/slog"
	"os/exec"
	"runtime"
	"time"
)

// Waits between restarts of the child; a child that lived for steady is taken
// for healthy again.
const (
	restartFirst = 100 * time.Millisecond
	restartMost  = 5 * time.Second
	steady       = 30 * time.Second
)

// supervise keeps the child running until ctx ends.
func (e *Embedded) supervise(ctx context.Context) {
	defer close(e.done)
	// Linux ties the parent-death signal to the thread that forked, so this
	// goroutine keeps its thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	wait := restartFirst
	for {
		began := time.Now()
		err := e.runOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > steady {
			wait = restartFirst
		}
		e.log.Warn("the embedded object store ended and is started again", "err", err, "wait", wait)
		select {
		case <-ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, restartMost)
	}
}

// runOnce starts the child and waits for its end.
func (e *Embedded) runOnce(ctx context.Context) error {
	line, err := json.Marshal(e.orders)
	if err != nil {
		return err
	}
	cmd := exec.Command(e.cmd[0], e.cmd[1:]...)
	isolate(cmd)
	cmd.Stdout = lineLogger{e.log}
	cmd.Stderr = lineLogger{e.log}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	e.setPID(cmd.Process.Pid)
	defer e.setPID(0)
	if _, err := stdin.Write(append(line, '\n')); err != nil {
		e.log.Warn("the embedded object store took no orders", "err", err)
	}
	finished := make(chan struct{})
	released := make(chan struct{})
	go func() {
		defer close(released)
		select {
		case <-finished:
			return
		case <-ctx.Done():
		}
		_ = stdin.Close() // tells it to end
		select {
		case <-finished:
		case <-time.After(5 * time.Second):
			_ = cmd.Process.Kill()
		}
	}()
	err = cmd.Wait()
	close(finished)
	<-released
	return err
}

func (e *Embedded) setPID(pid int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.pid = pid
}

// lineLogger passes the child's words on to the log.
type lineLogger struct{ log *slog.Logger }

func (l lineLogger) Write(p []byte) (int, error) {
	l.log.Info("embedded object store", "says", string(p))
	return len(p), nil
}
