package peft

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/trainer/contract"
)

const (
	// startTimeout bounds the time until the engine connects: to import torch from
	// a cold disk takes tens of seconds, with several workers at once longer.
	startTimeout = 5 * time.Minute
	// closeGrace is how long an engine that was told to end may take.
	closeGrace = 5 * time.Second
)

// process is the engine's process and our end of its socket.
type process struct {
	cmd    *exec.Cmd
	conn   net.Conn
	reader *bufio.Reader
	log    *logLines
	done   chan struct{} // closed when the process has ended
	err    error         // how, after done
}

// start runs the Python package in dir and waits until it has connected.
func start(ctx context.Context, python, dir string, workers int, env []string, emit *contract.Emitter) (*process, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("engine peft: %w", err)
	}
	defer listener.Close()
	secret := make([]byte, 16)
	if _, err := rand.Read(secret); err != nil {
		return nil, fmt.Errorf("engine peft: %w", err)
	}
	token := hex.EncodeToString(secret)
	args := []string{"-m", "tunemesh_peft"}
	if workers > 1 {
		args = []string{"-m", "torch.distributed.run", "--standalone", "--nproc-per-node", strconv.Itoa(workers), "-m", "tunemesh_peft"}
	}
	p := &process{cmd: exec.Command(python, args...), log: &logLines{emit: emit}, done: make(chan struct{})}
	p.cmd.Env = append(append(os.Environ(), env...),
		"PYTHONPATH="+dir, "PYTHONUNBUFFERED=1", "PYTHONDONTWRITEBYTECODE=1",
		"TUNEMESH_PEFT_ADDRESS="+listener.Addr().String(), "TUNEMESH_PEFT_TOKEN="+token)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	p.cmd.SysProcAttr = ownGroup()
	p.cmd.WaitDelay = time.Second
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("engine peft: start %s: %w", python, err)
	}
	go func() {
		p.err = p.cmd.Wait()
		p.log.flush()
		close(p.done)
	}()
	if err := p.accept(ctx, listener, token); err != nil {
		p.kill()
		return nil, err
	}
	return p, nil
}

// accept waits for the one connection that knows the token.
func (p *process) accept(ctx context.Context, listener net.Listener, token string) error {
	type accepted struct {
		conn   net.Conn
		reader *bufio.Reader
	}
	got := make(chan accepted, 1)
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed
			}
			r := bufio.NewReader(conn)
			_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
			line, err := r.ReadString('\n')
			if err != nil || subtle.ConstantTimeCompare([]byte(strings.TrimSpace(line)), []byte(token)) != 1 {
				_ = conn.Close()
				continue
			}
			_ = conn.SetReadDeadline(time.Time{})
			got <- accepted{conn, r}
			return
		}
	})
	defer wait.Wait()
	defer listener.Close()
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case a := <-got:
		p.conn, p.reader = a.conn, a.reader
		return nil
	case <-p.done:
		return p.died()
	case <-timeout.C:
		return &contract.Error{Class: contract.ClassTransient, Code: "ENGINE_START", Message: fmt.Sprintf("the engine peft has not started within %v%s", startTimeout, p.log.words())}
	case <-ctx.Done():
		return ctx.Err()
	}
}

// call makes one request and decodes its answer into out, which may be nil.
func (p *process) call(request, out any) error {
	data, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("engine peft: %w", err)
	}
	if _, err := p.conn.Write(append(data, '\n')); err != nil {
		return p.lost(err)
	}
	line, err := p.reader.ReadBytes('\n')
	if err != nil {
		return p.lost(err)
	}
	var r reply
	if err := json.Unmarshal(line, &r); err != nil {
		return fmt.Errorf("engine peft: its answer cannot be read: %w", err)
	}
	if r.Error != nil {
		return r.Error
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(r.OK, out); err != nil {
		return fmt.Errorf("engine peft: its answer cannot be read: %w", err)
	}
	return nil
}

// lost explains a broken connection by the process's end, which follows it.
func (p *process) lost(cause error) error {
	select {
	case <-p.done:
		return p.died()
	case <-time.After(closeGrace):
		return &contract.Error{Class: contract.ClassCrashed, Code: "ENGINE_LOST", Message: fmt.Sprintf("the engine peft does not answer: %v%s", cause, p.log.words())}
	}
}

func (p *process) died() error {
	e := &contract.Error{Class: contract.ClassCrashed, Code: "ENGINE_DIED", Message: fmt.Sprintf("the engine peft ended (%v)%s", p.err, p.log.words())}
	var exit *exec.ExitError
	if errors.As(p.err, &exit) && exit.ExitCode() == -1 {
		e.Hint = "it was killed from outside; if the system ran out of memory, lower training.batch_size"
	}
	return e
}

// close asks the engine to end and makes sure that it has.
func (p *process) close() error {
	_ = p.conn.SetDeadline(time.Now().Add(closeGrace))
	err := p.call(dirRequest{Op: "close"}, nil)
	_ = p.conn.Close()
	select {
	case <-p.done:
	case <-time.After(closeGrace):
	}
	p.kill()
	return err
}

// kill ends the process and all that it started, and waits for it.
func (p *process) kill() {
	if p.conn != nil {
		_ = p.conn.Close()
	}
	killGroup(p.cmd.Process)
	<-p.done
}

// logLines passes on what Python prints, line by line, and keeps the last ones.
type logLines struct {
	mu   sync.Mutex
	emit *contract.Emitter
	part []byte
	last []string
	said int
}

const (
	keepLines = 12  // for the message of a failure
	sayLines  = 500 // more than that is no log but a flood
)

// Write implements io.Writer.
func (l *logLines) Write(data []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.part = append(l.part, data...)
	for {
		line, rest, found := strings.Cut(string(l.part), "\n")
		if !found {
			return len(data), nil
		}
		l.part = []byte(rest)
		l.line(line)
	}
}

func (l *logLines) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.line(string(l.part))
	l.part = nil
}

func (l *logLines) line(text string) {
	if i := strings.LastIndexByte(strings.TrimRight(text, "\r"), '\r'); i >= 0 {
		text = text[i+1:] // a progress bar draws over itself
	}
	text = strings.TrimSpace(text)
	if text == "" {
		return
	}
	text = text[:min(len(text), 2000)]
	l.last = append(l.last, text)
	l.last = l.last[max(0, len(l.last)-keepLines):]
	if l.said++; l.said <= sayLines && l.emit != nil {
		l.emit.Info(text, map[string]any{"engine": "peft"})
	}
}

// words is what was printed last, for the message of a failure.
func (l *logLines) words() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.last) == 0 {
		return ""
	}
	return "; it said last: " + strings.Join(l.last, " | ")
}

var _ io.Writer = (*logLines)(nil)
