//go:build linux

package chaos

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a program on a host that is started again whenever it ends, as a
// service manager would do it, until it is stopped.
type process struct {
	name  string
	host  *namespace
	log   string // file
	env   []string
	stdin string // held open after this line; empty: none

	mu      sync.Mutex
	argv    []string
	cmd     *exec.Cmd
	pid     int
	ended   chan struct{} // of the one that runs
	wanted  bool
	pause   time.Duration // before the next start
	starts  int
	stopped bool // by SIGSTOP
	holding io.Closer
	keeper  sync.WaitGroup
	// unasked counts ends that no fault asked for, with how they ended.
	unasked []string
	killed  bool
}

// start runs the program and keeps it running.
func (p *process) start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted = true
	if p.cmd != nil {
		return nil
	}
	return p.startLocked()
}

func (p *process) startLocked() error {
	out, err := os.OpenFile(p.log, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer out.Close()
	fmt.Fprintf(out, "==== start %d of %s at %s: %s\n", p.starts+1, p.name, time.Now().UTC().Format("15:04:05.000"), strings.Join(p.argv, " "))
	cmd := exec.Command(p.argv[0], p.argv[1:]...)
	cmd.Env = append(os.Environ(), p.env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if p.stdin != "" {
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		go func() { _, _ = io.WriteString(in, p.stdin+"\n") }()
		p.holding = in
	}
	if err := p.host.do(cmd.Start); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	p.cmd, p.pid, p.ended, p.killed, p.stopped = cmd, cmd.Process.Pid, make(chan struct{}), false, false
	p.starts++
	p.keeper.Go(func() { p.keep(cmd, p.ended) })
	return nil
}

// keep waits for the end and starts the program again if it is wanted.
func (p *process) keep(cmd *exec.Cmd, ended chan struct{}) {
	err := cmd.Wait()
	p.mu.Lock()
	if p.holding != nil {
		_ = p.holding.Close()
		p.holding = nil
	}
	if p.wanted && !p.killed {
		p.unasked = append(p.unasked, fmt.Sprintf("%s: %v", time.Now().UTC().Format("15:04:05"), err))
	}
	pause := p.pause
	p.cmd, p.pid = nil, 0
	close(ended)
	p.mu.Unlock()
	for {
		time.Sleep(max(pause, 50*time.Millisecond))
		p.mu.Lock()
		if !p.wanted || p.cmd != nil {
			p.mu.Unlock()
			return
		}
		err := p.startLocked()
		p.mu.Unlock()
		if err == nil {
			return
		}
		pause = time.Second
	}
}

// kill sends SIGKILL; the program is started again after the pause.
func (p *process) kill(pause time.Duration) {
	p.mu.Lock()
	p.pause = pause
	cmd, ended := p.cmd, p.ended
	if cmd != nil {
		p.killed = true
		_ = cmd.Process.Kill()
	}
	p.mu.Unlock()
	if cmd != nil {
		<-ended
	}
}

// signal sends any other signal.
func (p *process) signal(s syscall.Signal) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.cmd != nil {
		p.stopped = s == syscall.SIGSTOP
		_ = p.cmd.Process.Signal(s)
	}
}

// stop ends the program for good: SIGTERM, then SIGKILL.
func (p *process) stop(grace time.Duration) {
	p.mu.Lock()
	p.wanted = false
	cmd, ended := p.cmd, p.ended
	if cmd != nil {
		_ = cmd.Process.Signal(syscall.SIGCONT)
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}
	p.mu.Unlock()
	if cmd != nil {
		select {
		case <-ended:
		case <-time.After(grace):
			_ = cmd.Process.Kill()
			<-ended
		}
	}
	p.keeper.Wait()
}

// restart ends the program as an upgrade does, with SIGTERM, and starts it with
// another command line.
func (p *process) restart(argv []string) {
	p.mu.Lock()
	p.argv, p.pause = argv, 100*time.Millisecond
	cmd, ended := p.cmd, p.ended
	if cmd != nil {
		p.killed = true
		_ = cmd.Process.Signal(syscall.SIGTERM)
	}
	p.mu.Unlock()
	if cmd == nil {
		return
	}
	select {
	case <-ended:
	case <-time.After(30 * time.Second):
		_ = cmd.Process.Kill()
		<-ended
	}
}

// running returns the pid, 0 if there is none.
func (p *process) running() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.pid
}

// replace changes the command line of the next start.
func (p *process) replace(argv []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.argv = argv
}

func (p *process) surprises() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.unasked...)
}
