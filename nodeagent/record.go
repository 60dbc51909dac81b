package nodeagent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/nodeagent/launcher"
	"github.com/tunemesh/tunemesh/nodeagent/spool"
)

// phase is how far an attempt has come. Each is on disk before the agent acts
// on it:
//
//	prepare -> launched -> exited -> uploaded -> (reported: the folder is gone)
type phase string

const (
	phasePrepare  phase = "prepare"
	phaseLaunched phase = "launched"
	phaseExited   phase = "exited"
	phaseUploaded phase = "uploaded"
)

const recordVersion = 1

// record is what an agent must know of an attempt to go on with it.
type record struct {
	Version    int                `json:"version"`
	Assignment api.Assignment     `json:"assignment"` // without its links
	Phase      phase              `json:"phase"`
	Handle     *launcher.Handle   `json:"handle,omitempty"`
	LaunchedAt time.Time          `json:"launched_at,omitzero"`
	Exit       *launcher.Exit     `json:"exit,omitempty"`
	Failure    *api.StageError    `json:"failure,omitempty"` // why it was never launched
	Reason     reason             `json:"reason,omitempty"`  // why the agent stopped it
	Report     *api.AttemptReport `json:"report,omitempty"`
}

// paths of one attempt.
type paths struct{ root string }

func (p paths) record() string  { return filepath.Join(p.root, "record.json") }
func (p paths) shipped() string { return filepath.Join(p.root, "shipped.json") }
func (p paths) sent() string    { return filepath.Join(p.root, "sent.json") }
func (p paths) launch() string  { return filepath.Join(p.root, "launch") }
func (p paths) events() string  { return filepath.Join(p.root, "events.log") }
func (p paths) input() string   { return filepath.Join(p.root, "input.json") }
func (p paths) result() string  { return filepath.Join(p.root, "result.json") }
func (p paths) in() string      { return filepath.Join(p.root, "in") }
func (p paths) out() string     { return filepath.Join(p.root, "out") }
func (p paths) scratch() string { return filepath.Join(p.root, "scratch") }

func (a *Agent) attemptPaths(fence uint64) paths {
	return paths{filepath.Join(a.cfg.Dir, "attempts", strconv.FormatUint(fence, 10))}
}

func (a *Agent) jobDir(job string) string { return filepath.Join(a.cfg.Dir, "jobs", job) }

func (a *Agent) checkpointDir(as api.Assignment) string {
	return filepath.Join(a.jobDir(as.JobID), "checkpoints", as.Stage.Name)
}

var safeName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)

// checkAssignment refuses names that would leave the agent's folders.
func checkAssignment(as api.Assignment) error {
	if as.Fence == 0 || !safeName.MatchString(as.JobID) || !safeName.MatchString(as.Stage.Name) {
		return fmt.Errorf("nodeagent: assignment of job %q stage %q fence %d has an unusable name", as.JobID, as.Stage.Name, as.Fence)
	}
	for _, in := range as.Inputs {
		if !safeName.MatchString(in.Stage) || !localName(in.Name) {
			return fmt.Errorf("nodeagent: input %s/%s has an unusable name", in.Stage, in.Name)
		}
	}
	if c := as.Checkpoint; c != nil {
		if !localName(c.Name) {
			return fmt.Errorf("nodeagent: checkpoint %q has an unusable name", c.Name)
		}
		for _, f := range c.Files {
			if !localName(f.Name) {
				return fmt.Errorf("nodeagent: checkpoint file %s/%s has an unusable name", c.Name, f.Name)
			}
		}
	}
	return nil
}

func localName(name string) bool {
	return name != "." && filepath.IsLocal(filepath.FromSlash(name))
}

func (p paths) save(r record) error {
	data, err := json.MarshalIndent(r, "", " ")
	if err == nil {
		err = writeFile(p.record(), data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("nodeagent: record of attempt %d: %w", r.Assignment.Fence, err)
	}
	return nil
}

func (p paths) load() (record, error) {
	var r record
	data, err := os.ReadFile(p.record())
	if err == nil {
		err = json.Unmarshal(data, &r)
	}
	if err == nil && r.Version != recordVersion {
		err = fmt.Errorf("version %d, want %d", r.Version, recordVersion)
	}
	if err != nil {
		return r, fmt.Errorf("nodeagent: record in %s: %w", p.root, err)
	}
	return r, nil
}

// withoutLinks drops the presigned links, which are secrets and expire.
func withoutLinks(as api.Assignment) api.Assignment {
	as.Inputs = slices.Clone(as.Inputs)
	for i := range as.Inputs {
		as.Inputs[i].URL = ""
	}
	if as.Checkpoint != nil {
		c := *as.Checkpoint
		c.Files = slices.Clone(c.Files)
		for i := range c.Files {
			c.Files[i].URL = ""
		}
		as.Checkpoint = &c
	}
	return as
}

// shipped is how far an attempt's events and checkpoints have gone. The file
// may lag behind by a power cut: the server knows what it holds.
type shipped struct {
	path string

	mu    sync.Mutex
	state shippedState
	saved time.Time
	wake  chan struct{} // has room for one: there is a new checkpoint
}

type shippedState struct {
	Acked       spool.Position `json:"acked"`
	Base        spool.Position `json:"base,omitzero"`         // what is before was dropped
	Checkpoints []string       `json:"checkpoints,omitempty"` // announced, not yet uploaded
}

// saveEvery is the least time between two writes of a position: what is sent
// again for want of it is known to the server.
const saveEvery = 100 * time.Millisecond

// keptCheckpoints bounds the queue: a stage that writes them faster than they
// are uploaded loses the oldest.
const keptCheckpoints = 8

func loadShipped(path string) (*shipped, error) {
	s := &shipped{path: path, wake: make(chan struct{}, 1)}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("nodeagent: %w", err)
	}
	if json.Unmarshal(data, &s.state) != nil {
		s.state = shippedState{} // ship from the beginning: the server drops repeats
	}
	return s, nil
}

func (s *shipped) position() spool.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Acked
}

// flush writes down what is known.
func (s *shipped) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.saveLocked()
}

func (s *shipped) base() spool.Position {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state.Base
}

// dropped notes, before it is done, that what is before a position goes.
func (s *shipped) dropped(base spool.Position) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Base = base
	return s.saveLocked()
}

func (s *shipped) acked(at spool.Position) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Acked = at
	if time.Since(s.saved) < saveEvery {
		return nil
	}
	return s.saveLocked()
}

// announce queues a checkpoint. It is on disk before its event is acknowledged.
func (s *shipped) announce(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state.Checkpoints = append(slices.DeleteFunc(s.state.Checkpoints, func(n string) bool { return n == name }), name)
	if over := len(s.state.Checkpoints) - keptCheckpoints; over > 0 {
		s.state.Checkpoints = s.state.Checkpoints[over:]
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *shipped) next() (string, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.state.Checkpoints) == 0 {
		return "", false
	}
	return s.state.Checkpoints[0], true
}

func (s *shipped) settled(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := slices.Index(s.state.Checkpoints, name); i >= 0 {
		s.state.Checkpoints = slices.Delete(s.state.Checkpoints, i, i+1)
	}
	return s.saveLocked()
}

func (s *shipped) saveLocked() error {
	s.saved = time.Now()
	data, err := json.Marshal(s.state)
	if err == nil {
		tmp := s.path + ".tmp"
		if err = os.WriteFile(tmp, data, 0o640); err == nil {
			err = os.Rename(tmp, s.path)
		}
	}
	if err != nil {
		return fmt.Errorf("nodeagent: %w", err)
	}
	return nil
}
