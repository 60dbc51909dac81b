package simulation

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/nodeagent/launcher"
)

// machine is where an agent and its stages run: a disk and a table of processes.
// Stages outlive their agent, not their machine.
type machine struct {
	name string
	rand *shared
	// forgets is a planted bug: an agent takes what an earlier one started for gone.
	forgets bool

	mu    sync.Mutex
	dir   string // of the agent that runs
	boot  int
	table map[string]*trainer // by launch folder, relative to dir
	all   []*trainer
	fault []string
}

// trainer is a stage's process with the record that its shim would write.
type trainer struct {
	machine      *machine
	launch       string // its launch folder, relative
	fence        uint64
	boot         int
	by           *process // the agent that started it
	begun, ended time.Time
	exit         launcher.Exit
	signal       chan time.Duration // SIGTERM with its grace
	done         chan struct{}
	over         bool
}

// path is where a file is now: the agent's folder moves when it crashes.
func (m *machine) path(rel string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return filepath.Join(m.dir, rel)
}

// write changes a file between two looks of whoever copies the disk.
func (m *machine) write(rel string, mode int, data []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	f, err := os.OpenFile(filepath.Join(m.dir, rel), mode|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Close())
}

// reboot ends all processes, without a record.
func (m *machine) reboot() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.boot++
	for _, t := range m.all {
		t.endLocked(launcher.Exit{Gone: true})
	}
}

func (t *trainer) endLocked(exit launcher.Exit) {
	if !t.over {
		t.over, t.ended = true, time.Now()
		exit.StartedAt, exit.EndedAt = t.begun, t.ended
		t.exit = exit
		close(t.done)
	}
}

func (t *trainer) end(exit launcher.Exit) {
	t.machine.mu.Lock()
	defer t.machine.mu.Unlock()
	t.endLocked(exit)
}

// launches is the launcher of one agent's life.
type launches struct {
	machine *machine
	dir     string // the agent's folder in this life
	process *process
}

var _ launcher.Launcher = launches{}

// Name implements launcher.Launcher.
func (launches) Name() string { return "local" }

var errDead = errors.New("this agent is dead")

func (l launches) rel(path string) string {
	rel, err := filepath.Rel(l.dir, path)
	if err != nil {
		return path
	}
	return rel
}

// Start implements launcher.Launcher. It takes a while before and after the
// process is there, so that an agent can die in between.
func (l launches) Start(_ context.Context, spec launcher.Spec) (launcher.Handle, error) {
	m := l.machine
	if l.process.isDead() {
		return launcher.Handle{}, errDead
	}
	rel := l.rel(spec.Dir)
	fence, err := strconv.ParseUint(filepath.Base(filepath.Dir(rel)), 10, 64)
	if err != nil {
		return launcher.Handle{}, err
	}
	time.Sleep(m.rand.upTo(60 * time.Millisecond))
	// An agent that died before its shim was there started nothing; one that died
	// after may have.
	if l.process.isDead() && m.rand.IntN(2) == 0 {
		return launcher.Handle{}, errDead
	}
	t, err := m.spawn(l.process, rel, fence, l.relative(spec))
	if err != nil {
		return launcher.Handle{}, err
	}
	time.Sleep(m.rand.upTo(60 * time.Millisecond))
	if l.process.isDead() {
		return launcher.Handle{}, errDead
	}
	return t.handle()
}

// relative makes the paths of a spec ones within the agent's folder.
func (l launches) relative(spec launcher.Spec) launcher.Spec {
	spec.Stdin, spec.Output = l.rel(spec.Stdin), l.rel(spec.Output)
	return spec
}

// claimFile is, as with the real launcher, made by whoever comes first: the shim
// that starts the command, or an agent that will not wait for it any more.
const claimFile, claimed, tombstone = "claim", "claimed", "tombstone"

// claimLocked writes the claim of a launch folder, or returns the one that is there.
func (m *machine) claimLocked(rel, as string) (was string, err error) {
	path := filepath.Join(m.dir, rel, claimFile)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if errors.Is(err, fs.ErrExist) {
		data, err := os.ReadFile(path)
		return string(data), err
	}
	if err != nil {
		return "", err
	}
	_, err = f.WriteString(as)
	return "", errors.Join(err, f.Close())
}

func (m *machine) spawn(by *process, rel string, fence uint64, spec launcher.Spec) (*trainer, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.table[rel]
	switch was, err := m.claimLocked(rel, claimed); {
	case errors.Is(err, fs.ErrNotExist): // the agent that wanted it has cleared it away
		return nil, launcher.ErrNotStarted
	case err != nil:
		return nil, err
	case was == tombstone:
		return nil, launcher.ErrNotStarted
	case was == claimed && old != nil:
		return old, nil
	}
	if old != nil {
		m.fault = append(m.fault, fmt.Sprintf("I8: fence %d was started twice on %s", fence, m.name))
	}
	t := &trainer{machine: m, launch: rel, fence: fence, boot: m.boot, by: by, begun: time.Now(), signal: make(chan time.Duration, 8), done: make(chan struct{})}
	m.table[rel] = t
	m.all = append(m.all, t)
	go t.run(spec, rand.New(rand.NewPCG(m.rand.Uint64(), fence)))
	return t, nil
}

func (t *trainer) handle() (launcher.Handle, error) {
	data, err := json.Marshal(t.launch)
	return launcher.Handle{Launcher: "simulated", Version: 1, Data: data}, err
}

// Find implements launcher.Launcher.
func (l launches) Find(dir string) (launcher.Handle, error) {
	if l.process.isDead() {
		return launcher.Handle{}, errDead
	}
	m := l.machine
	m.mu.Lock()
	defer m.mu.Unlock()
	rel := l.rel(dir)
	was, err := m.claimLocked(rel, tombstone)
	if t := m.table[rel]; err == nil && was == claimed && t != nil {
		return t.handle()
	}
	return launcher.Handle{}, errors.Join(err, launcher.ErrNotStarted)
}

func (l launches) trainer(h launcher.Handle) (*trainer, error) {
	if l.process.isDead() {
		return nil, errDead
	}
	var rel string
	if err := json.Unmarshal(h.Data, &rel); err != nil {
		return nil, err
	}
	l.machine.mu.Lock()
	defer l.machine.mu.Unlock()
	t := l.machine.table[rel]
	if t == nil {
		return nil, fmt.Errorf("no process of %s", rel)
	}
	return t, nil
}

// Recover implements launcher.Launcher.
func (l launches) Recover(h launcher.Handle) (launcher.Status, error) {
	t, err := l.trainer(h)
	if err != nil {
		return "", err
	}
	t.machine.mu.Lock()
	defer t.machine.mu.Unlock()
	switch {
	case !t.over:
		return launcher.StatusRunning, nil
	case t.exit.Gone:
		return launcher.StatusGone, nil
	}
	return launcher.StatusExited, nil
}

// Wait implements launcher.Launcher.
func (l launches) Wait(ctx context.Context, h launcher.Handle) (launcher.Exit, error) {
	t, err := l.trainer(h)
	if err != nil {
		return launcher.Exit{}, err
	}
	if t.machine.forgets && t.by != l.process {
		return launcher.Exit{Gone: true, SameBoot: true, StartedAt: t.begun, EndedAt: time.Now()}, nil
	}
	select {
	case <-t.done:
	case <-ctx.Done():
		return launcher.Exit{}, ctx.Err()
	case <-l.process.gone:
		<-ctx.Done()
		return launcher.Exit{}, ctx.Err()
	}
	t.machine.mu.Lock()
	defer t.machine.mu.Unlock()
	exit := t.exit
	exit.SameBoot = t.boot == t.machine.boot
	return exit, nil
}

// Stop implements launcher.Launcher.
func (l launches) Stop(h launcher.Handle, grace time.Duration) error {
	t, err := l.trainer(h)
	if err != nil {
		return err
	}
	select {
	case t.signal <- grace:
	default:
	}
	return nil
}

// Kill implements launcher.Launcher.
func (l launches) Kill(h launcher.Handle) error { return l.Stop(h, 0) }

// copyTree copies a folder as it is at this moment; what goes away meanwhile is
// left out, as a crash would.
func copyTree(from, to string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			return os.MkdirAll(filepath.Join(to, rel), 0o750)
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, rel), data, 0o640)
	})
}
