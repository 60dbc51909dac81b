package launcher

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// Launcher starts stages and finds them again.
type Launcher interface {
	// Name is what the capability document calls the launcher.
	Name() string
	// Start starts a command and returns when it is certain that a later
	// Recover with the same directory or the handle finds it.
	Start(ctx context.Context, spec Spec) (Handle, error)
	// Find looks for what a Start that was cut short left in a directory. After
	// an ErrNotStarted nothing of it runs or ever will.
	Find(dir string) (Handle, error)
	// Recover tells what has become of a command.
	Recover(h Handle) (Status, error)
	// Wait blocks until the command has ended or ctx has.
	Wait(ctx context.Context, h Handle) (Exit, error)
	// Stop asks the command to end; after grace it is killed. It does not wait.
	Stop(h Handle, grace time.Duration) error
	// Kill ends the command and all it started, at once. It does not wait.
	Kill(h Handle) error
}

// Errors of a launcher.
var (
	// ErrNotStarted: the directory holds no command that was started.
	ErrNotStarted = errors.New("launcher: nothing was started here")
	// ErrUnsupported: this platform cannot run stages.
	ErrUnsupported = errors.New("launcher: stages are started on Linux and macOS only")
)

// EnvLaunch is set for every command to its Spec.Dir. What a command leaves
// behind is recognised by it.
const EnvLaunch = "TUNEMESH_LAUNCH"

// Spec is a command to start.
type Spec struct {
	// Dir is the launcher's own directory for this start; it exists, is empty
	// at first and stays until the command's end has been read.
	Dir string `json:"dir"`
	// Argv is the program and its arguments.
	Argv []string `json:"argv"`
	Env  []string `json:"env"`
	// WorkDir is the working directory.
	WorkDir string `json:"work_dir"`
	// Stdin is a file that becomes standard input, Output one that standard
	// output and error are appended to.
	Stdin  string `json:"stdin"`
	Output string `json:"output"`
	// Niceness and OOMScoreAdj apply to the command, not to its shim.
	Niceness    int `json:"niceness,omitempty"`
	OOMScoreAdj int `json:"oom_score_adj,omitempty"`
}

// Handle names a started command. It is opaque: keep it, hand it back.
type Handle struct {
	Launcher string          `json:"launcher"`
	Version  int             `json:"version"`
	Data     json.RawMessage `json:"data"`
}

// Status says what has become of a command.
type Status string

// Statuses.
const (
	StatusRunning Status = "running"
	StatusExited  Status = "exited" // its exit record is there
	StatusGone    Status = "gone"   // neither the process nor a record
)

// Exit is how a command ended.
type Exit struct {
	// Gone: how it ended is not known; its supervisor vanished with it.
	Gone bool `json:"gone,omitempty"`
	// SameBoot tells of a Gone command whether the machine has been up since it
	// was started, so that files it wrote are whole.
	SameBoot bool `json:"same_boot,omitempty"`
	// StartError: the command could not be started at all.
	StartError string    `json:"start_error,omitempty"`
	Code       int       `json:"code"`
	Signal     string    `json:"signal,omitempty"`
	OOMKilled  bool      `json:"oom_killed,omitempty"`
	Stopped    bool      `json:"stopped,omitempty"` // it had been asked to stop
	MaxRSS     int64     `json:"max_rss,omitempty"` // bytes
	StartedAt  time.Time `json:"started_at"`
	EndedAt    time.Time `json:"ended_at"`
}
