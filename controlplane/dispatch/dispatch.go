package dispatch

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// ErrNotLeading is the answer while Run does not run: ask the leader.
var ErrNotLeading = errors.New("dispatch: this server does not lead")

// Raft proposes commands. consensus.Node is one.
type Raft interface {
	// Apply returns after the command is committed and applied here.
	Apply(ctx context.Context, c state.Command) (state.Result, error)
	// Barrier returns once everything committed earlier is applied here.
	Barrier(ctx context.Context) error
}

// Events is what dispatch needs of the event log.
type Events interface {
	// Last returns the last n events of an attempt, newest last.
	Last(ctx context.Context, jobID string, fence uint64, n int) ([]api.Event, error)
	// AppendState appends a job's STATE events, the first of which is the
	// transition number firstSeq. Those that the log holds already are passed
	// over; if firstSeq is beyond what it holds plus one, nothing is appended.
	// It returns the number of the transition that the log wants next.
	AppendState(ctx context.Context, jobID string, firstSeq uint64, events []api.Event) (next uint64, err error)
}

// Publisher writes the copies of a succeeded stage's artifacts under their
// well-known names. It may be called again for the same stage.
type Publisher interface {
	Publish(ctx context.Context, stage api.Stage) error
}

// Observer is told what happened, for metrics. It must not block.
type Observer interface {
	Planned(took time.Duration)
	Placed(kind string)
	Refused()
	LeaseExpired()
	Lost(kind string)
	Ended(kind string, end api.AttemptState, took time.Duration)
}

// Config wires a Dispatcher. Raft and Store are needed; without Events nothing
// is projected and dead letters have no events; without Publisher nothing is
// published. Zero durations mean the defaults.
type Config struct {
	Raft      Raft
	Store     *state.Store
	Events    Events
	Publisher Publisher
	Observer  Observer // may be nil
	Archiver  Archiver // may be nil: then nothing is archived
	// Clock is time.Now, Rand a number from [0, 1) for jitter. Leases are kept
	// by the clock's monotonic reading, which UTC would strip: what goes into a
	// command is made UTC there.
	Clock func() time.Time
	Rand  func() float64
	Log   *slog.Logger

	// Hold says why no stage may be placed for now, in words for whoever waits;
	// empty, or a nil Hold: nothing speaks against it.
	Hold func() string

	// LeaseTTL is how long a heartbeat counts (20 s); NewLeaderGrace what every
	// node gets from a new leader (40 s).
	LeaseTTL, NewLeaderGrace time.Duration
	// BackoffBase and BackoffCap bound the wait before a retry (1 s, 60 s).
	BackoffBase, BackoffCap time.Duration
}

// HeartbeatInterval is how often an agent should send a heartbeat, where there
// are no more than 2,500 of them.
const HeartbeatInterval = 5 * time.Second

func (c Config) withDefaults() Config {
	def := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	def(&c.LeaseTTL, 20*time.Second)
	def(&c.NewLeaderGrace, 40*time.Second)
	def(&c.BackoffBase, time.Second)
	def(&c.BackoffCap, time.Minute)
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Rand == nil {
		c.Rand = rand.Float64
	}
	if c.Observer == nil {
		c.Observer = nobody{}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	return c
}

// Dispatcher is the leader's loop and memory.
type Dispatcher struct {
	config Config

	mu sync.Mutex
	// term is nil while this server does not lead.
	term *term
}

// New returns a Dispatcher that does nothing until Run.
func New(c Config) *Dispatcher { return &Dispatcher{config: c.withDefaults()} }

// Run leads until ctx ends. It first waits until the state has caught up with
// earlier leaders, and returns ctx's error after all its work has stopped. One
// Run at a time.
func (d *Dispatcher) Run(ctx context.Context) error {
	if err := d.catchUp(ctx); err != nil {
		return err
	}
	t := newTerm(d.config)
	d.mu.Lock()
	d.term = t
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.term = nil
		d.mu.Unlock()
	}()
	return t.run(ctx)
}

// catchUp waits for the state, however often it takes: a disk that is slow for a
// moment must not leave a leader without its loop.
func (d *Dispatcher) catchUp(ctx context.Context) error {
	for {
		err := d.config.Raft.Barrier(ctx)
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		d.config.Log.Warn("the state has not caught up yet", "err", err)
		timer := time.NewTimer(200 * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
	}
}

func (d *Dispatcher) leading() *term {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.term
}

// Heartbeat renews a node's lease and says which of its fences are stale. A
// node that is not registered, or with another capability, is told so.
func (d *Dispatcher) Heartbeat(nodeID string, h api.Heartbeat) (api.HeartbeatReply, error) {
	t := d.leading()
	if t == nil {
		return api.HeartbeatReply{}, ErrNotLeading
	}
	return t.heartbeat(nodeID, h), nil
}

// Report takes an attempt's start or end. It returns nil once the state has
// accepted it; state.ErrStaleFence, if the attempt has been given up, tells the
// agent to stop and forget it.
func (d *Dispatcher) Report(ctx context.Context, fence uint64, r api.AttemptReport) error {
	t := d.leading()
	if t == nil {
		return ErrNotLeading
	}
	return t.report(ctx, fence, r)
}

// WaitReason says in words why a ready stage is not placed; empty if it is not
// known to wait.
func (d *Dispatcher) WaitReason(jobID, stage string) string {
	t := d.leading()
	if t == nil {
		return ""
	}
	reason := t.waitReason(jobID, stage)
	// The plan may be older than what holds all stages back.
	if reason != "" && d.config.Hold != nil {
		reason = cmp.Or(d.config.Hold(), reason)
	}
	return reason
}

// FillNode adds what only the leader knows: status, last seen, and how many
// attempts are placed there.
func (d *Dispatcher) FillNode(n *api.Node) {
	n.Running = len(d.config.Store.AttemptsOnNode(n.ID))
	n.Status, n.LastSeen = api.NodeUnseen, nil
	if t := d.leading(); t != nil {
		t.fillNode(n)
	}
}

// nobody observes.
type nobody struct{}

func (nobody) Planned(time.Duration)                         {}
func (nobody) Placed(string)                                 {}
func (nobody) Refused()                                      {}
func (nobody) LeaseExpired()                                 {}
func (nobody) Lost(string)                                   {}
func (nobody) Ended(string, api.AttemptState, time.Duration) {}
