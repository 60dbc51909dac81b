package nodeagent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/nodeagent/capability"
	"github.com/tunemesh/tunemesh/nodeagent/launcher"
)

// ControlPlane is what an agent says to the control plane. An error may be an
// *api.Problem; one of type api.ProblemStaleFence means that the attempt has
// moved on and must be stopped and cleaned up.
type ControlPlane interface {
	// Register makes the node known, or tells a change of its capability.
	Register(ctx context.Context, nodeID string, r api.Registration) (api.RegistrationReply, error)
	// Heartbeat renews the node's lease.
	Heartbeat(ctx context.Context, nodeID string, h api.Heartbeat) (api.HeartbeatReply, error)
	// Assignments answers when the desired set is newer than index, or after
	// wait, with the whole set.
	Assignments(ctx context.Context, nodeID string, index uint64, wait time.Duration) (api.Assignments, error)
	// AppendEvents ships lines; the acknowledgement says what the server holds,
	// also when it comes with an error.
	AppendEvents(ctx context.Context, fence uint64, b api.EventBatch) (api.EventAck, error)
	// RequestUploads asks for presigned PUT links.
	RequestUploads(ctx context.Context, fence uint64, r api.UploadRequest) (api.UploadReply, error)
	// Multipart takes one step of the upload of a file in parts.
	Multipart(ctx context.Context, fence uint64, step api.MultipartStep, r api.MultipartRequest) (api.Multipart, error)
	// ReportCheckpoint makes an uploaded checkpoint known.
	ReportCheckpoint(ctx context.Context, fence uint64, r api.CheckpointReport) error
	// ReportAttempt reports an attempt's start or end.
	ReportAttempt(ctx context.Context, fence uint64, r api.AttemptReport) error
}

// Config is what an agent needs to know. Only Dir is required.
type Config struct {
	// Dir is the agent's own directory: key, cache, attempts, checkpoints.
	Dir string
	// Name is shown to people; the host's name by default.
	Name   string
	Labels map[string]string
	// Version of the program, for `node list`.
	Version string

	// Executable is the tunemesh binary; it is run as "shim SPEC" and as
	// "trainer KIND". The running program by default.
	Executable string
	// StageEnv is added to the environment of every stage, as KEY=value.
	StageEnv []string
	// Niceness of stages, 0 to 19; 5 by default, so that a training does not
	// starve the agent and its lease.
	Niceness int

	// StopStagesOnExit makes Run stop its stages when its context ends (the
	// mesh of one node). Otherwise they go on and the next agent on this
	// directory finds them again (a service that is upgraded).
	StopStagesOnExit bool
	// StopGrace is the time between SIGTERM and SIGKILL; 20 s by default.
	StopGrace time.Duration
	// ExitGrace bounds the farewell when StopStagesOnExit is set: stages get it
	// to checkpoint, then reports get a few seconds; 8 s by default.
	ExitGrace time.Duration

	// LeftoverPatience is how long the store may be away before a failed attempt
	// is reported without what it left behind; 2 minutes by default.
	LeftoverPatience time.Duration

	// HeartbeatInterval replaces what the control plane says, if set.
	HeartbeatInterval time.Duration
	// PollWait is how long an assignments poll may hang; 55 s by default.
	PollWait time.Duration
	// FlushInterval is how often a stage's output is looked at; 50 ms by default.
	// Where the system tells of writes (inotify), that wakes the agent earlier.
	FlushInterval time.Duration
	// PollSpools does without being told of writes: only FlushInterval counts.
	PollSpools bool
	// ProbeInterval is how often the control plane is asked whether it still has
	// what it acknowledged, of attempts that print nothing and of those that are
	// over; 5 s by default.
	ProbeInterval time.Duration
	// SpoolBytes bounds what one attempt's lines take on the disk, and what those
	// of all attempts that are over take together; 1 GiB by default. Beyond it
	// the oldest lines go, and an event says which.
	SpoolBytes int64
	// RetryBase is the first pause after a failed call, doubled up to RetryMax;
	// 200 ms and 10 s by default.
	RetryBase, RetryMax time.Duration

	// StallTimeout is how long no byte of a transfer may move before it is begun
	// again; 1 minute by default.
	StallTimeout time.Duration

	// CacheBytes bounds the input cache; 20 GiB by default.
	CacheBytes int64
	// KeepJobs is how long checkpoints of a job without assignments stay; 7
	// days by default.
	KeepJobs time.Duration
	// MinFreeBytes is the free disk below which old jobs and cached inputs go
	// early; 2 GiB by default.
	MinFreeBytes int64

	// HTTP is used for presigned links. By default a client without a total
	// time limit.
	HTTP *http.Client
	// Launcher starts stages; the local one by default.
	Launcher launcher.Launcher
	// Detect finds the machine's capability; capability.Detect by default.
	Detect func(ctx context.Context, dir string) api.Capability
	// GPULoads measures the GPUs; capability.GPULoads by default.
	GPULoads func(ctx context.Context) []api.GPULoad
	// MetricsAddr is where /metrics is served, told to the control plane; empty:
	// nowhere.
	MetricsAddr string
	// DetectInterval is how often that is repeated; 5 minutes by default.
	DetectInterval time.Duration
	// OnRegistered is called after every registration, for the gossip peers and
	// key in the reply. It must not block.
	OnRegistered func(api.RegistrationReply)
	// GossipKeys is the digest of the keys that the gossip of this machine has, told
	// with every heartbeat; nil or empty: no gossip.
	GossipKeys func() string
	Logger     *slog.Logger
}

// withDefaults fills in empty fields and makes paths absolute: a stage runs in
// another directory.
func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("nodeagent: no directory given: set Config.Dir to where the agent may keep its key, cache and attempts")
	}
	dir, err := filepath.Abs(c.Dir)
	if err != nil {
		return c, fmt.Errorf("nodeagent: directory %s: %w", c.Dir, err)
	}
	c.Dir = dir
	if c.Executable == "" {
		if c.Executable, err = os.Executable(); err != nil {
			return c, fmt.Errorf("nodeagent: find own program: %w", err)
		}
	}
	if c.Name == "" {
		if c.Name, err = os.Hostname(); err != nil || c.Name == "" {
			c.Name = "node"
		}
	}
	def(&c.Niceness, 5)
	def(&c.StopGrace, 20*time.Second)
	def(&c.ExitGrace, 8*time.Second)
	def(&c.LeftoverPatience, 2*time.Minute)
	def(&c.PollWait, 55*time.Second)
	def(&c.FlushInterval, 50*time.Millisecond)
	def(&c.ProbeInterval, 5*time.Second)
	def(&c.SpoolBytes, 1<<30)
	def(&c.RetryBase, 200*time.Millisecond)
	def(&c.RetryMax, 10*time.Second)
	def(&c.StallTimeout, time.Minute)
	def(&c.DetectInterval, 5*time.Minute)
	def(&c.CacheBytes, 20<<30)
	def(&c.KeepJobs, 7*24*time.Hour)
	def(&c.MinFreeBytes, 2<<30)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Detect == nil {
		c.Detect = capability.Detect
	}
	if c.GPULoads == nil {
		c.GPULoads = capability.GPULoads
	}
	return c, nil
}

func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}
