package dispatch_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/dispatch"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// rig is a leader without Raft: commands go straight into the state. It runs in
// a synctest bubble, where time passes only when all wait.
type rig struct {
	t         *testing.T
	store     *state.Store
	d         *dispatch.Dispatcher
	log       *eventLog
	publisher *publisher
	archiver  dispatch.Archiver // set before elect
	stop      func()

	mu      sync.Mutex
	index   uint64
	applied []state.Command
	down    bool
	// barriers counts calls of Barrier.
	barriers int
	// slow, if set, holds every command up until it is closed.
	slow chan struct{}
	// skew is how far the next leader's clock is ahead.
	skew time.Duration
	hold string // why nothing may be placed
	// beats are the nodes that send heartbeats, with what they run.
	beats map[string]func() []uint64
}

var errDown = errors.New("no quorum")

func (r *rig) Apply(_ context.Context, c state.Command) (state.Result, error) {
	r.mu.Lock()
	slow := r.slow
	r.mu.Unlock()
	if slow != nil {
		<-slow
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.down {
		return state.Result{}, errDown
	}
	entry, err := state.Encode(c)
	if err != nil {
		return state.Result{}, err
	}
	r.index++
	r.applied = append(r.applied, c)
	result, err := r.store.Apply(r.index, entry)
	if err != nil {
		return result, err
	}
	return result, result.Err
}

// Barrier fails twice first, as on a disk that is slow for a moment.
func (r *rig) Barrier(context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.barriers++; r.barriers%3 != 0 {
		return errDown
	}
	return nil
}

func (r *rig) setDown(down bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.down = down
}

func (r *rig) must(c state.Command) {
	r.t.Helper()
	if _, err := r.Apply(context.Background(), c); err != nil {
		r.t.Fatalf("%s: %v", c.Kind(), err)
	}
}

// count returns how many commands of a kind were applied.
func (r *rig) count(kind string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for _, c := range r.applied {
		if c.Kind() == kind {
			n++
		}
	}
	return n
}

// inBubble runs a test with a leader that starts at once.
func inBubble(t *testing.T, test func(r *rig)) {
	t.Helper()
	inBubbleOf(t, api.ProtocolVersion, test)
}

// inBubbleOf is inBubble in a mesh whose servers all speak a protocol version.
func inBubbleOf(t *testing.T, version int, test func(r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s, err := state.New()
		if err != nil {
			t.Fatal(err)
		}
		r := &rig{t: t, store: s, log: &eventLog{next: map[string]uint64{}, lines: map[string][]api.Event{}},
			publisher: &publisher{}, beats: map[string]func() []uint64{}}
		r.must(state.SetMinVersion{Version: version})
		r.elect()
		defer func() { r.stop() }()
		test(r)
	})
}

func (r *rig) held() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hold
}

func (r *rig) setHold(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.hold = why
}

// elect makes a new leader on the same state, with an empty memory.
func (r *rig) elect() {
	if r.stop != nil {
		r.stop()
	}
	skew := r.skew
	r.d = dispatch.New(dispatch.Config{Clock: func() time.Time { return time.Now().Add(skew) }, Raft: r, Store: r.store, Events: r.log, Publisher: r.publisher, Archiver: r.archiver,
		Hold: r.held, Rand: func() float64 { return 0.5 }})
	ctx, cancel := context.WithCancel(context.Background())
	var done sync.WaitGroup
	done.Go(func() {
		if err := r.d.Run(ctx); !errors.Is(err, context.Canceled) {
			r.t.Errorf("Run: %v", err)
		}
	})
	r.stop = func() { cancel(); done.Wait() }
	time.Sleep(time.Second)
}

func (r *rig) register(id string, cores int) {
	r.must(state.UpsertNode{At: time.Now(), Node: api.Node{ID: id, Name: id, Digest: "d1", Capability: api.Capability{
		CPU: api.CPU{Cores: cores}, MemoryBytes: 16 << 30, Engines: []api.Engine{{Name: "native", Available: true}}}}})
}

// beating registers a node whose heartbeats name all that it should run.
func (r *rig) beating(id string, cores int) {
	r.register(id, cores)
	r.beats[id] = func() []uint64 {
		var fences []uint64
		for _, a := range r.store.AttemptsOnNode(id) {
			fences = append(fences, a.Fence)
		}
		return fences
	}
	r.beat(id)
}

func (r *rig) beat(id string) api.HeartbeatReply {
	r.t.Helper()
	reply, err := r.d.Heartbeat(id, api.Heartbeat{SentAt: time.Now(), Fences: r.beats[id](), Digest: "d1"})
	if err != nil {
		r.t.Fatal(err)
	}
	r.settle()
	return reply
}

// settle lets the loops do what they have to do now: their pauses are shorter.
func (r *rig) settle() {
	time.Sleep(300 * time.Millisecond)
	synctest.Wait() // what the loops wrote may be read now
}

// pass lets time go by; nodes in beats send their heartbeats.
func (r *rig) pass(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(min(dispatch.HeartbeatInterval, time.Until(end)))
		for id := range r.beats {
			if _, err := r.d.Heartbeat(id, api.Heartbeat{Fences: r.beats[id](), Digest: "d1"}); err != nil {
				r.t.Fatal(err)
			}
		}
	}
	r.settle()
}

func stage(name, kind string) api.StageSpec {
	return api.StageSpec{Name: name, Kind: kind, MaxAttempts: 3}
}

func (r *rig) job(id string, nodes ...api.StageSpec) {
	r.t.Helper()
	p := api.Pipeline{Nodes: nodes}
	for i := 1; i < len(nodes); i++ {
		p.Edges = append(p.Edges, api.Edge{From: nodes[i-1].Name, To: nodes[i].Name})
	}
	r.must(state.CreateJob{Spec: api.JobSpec{ID: id}, Pipeline: p, At: time.Now()})
	r.settle()
}

func (r *rig) stage(job, name string) api.Stage {
	r.t.Helper()
	s, err := r.store.Stage(job, name)
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func (r *rig) wantStage(job, name string, want api.StageState) api.Stage {
	r.t.Helper()
	s := r.stage(job, name)
	if s.State != want {
		r.t.Fatalf("stage %s is %s, want %s (%s)", name, s.State, want, r.d.WaitReason(job, name))
	}
	return s
}

func (r *rig) attempt(fence uint64) api.Attempt {
	r.t.Helper()
	a, err := r.store.Attempt(fence)
	if err != nil {
		r.t.Fatal(err)
	}
	return a
}

func (r *rig) report(fence uint64, report api.AttemptReport) {
	r.t.Helper()
	if err := r.d.Report(context.Background(), fence, report); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) running(job, name string) uint64 {
	r.t.Helper()
	fence := r.wantStage(job, name, api.StageRunning).Fence
	r.report(fence, api.AttemptReport{State: api.AttemptRunning})
	return fence
}

func broken(class string, retryable bool) api.AttemptReport {
	return api.AttemptReport{State: api.AttemptFailed, Error: &api.StageError{Class: class, Code: "X", Message: "it broke", Retryable: retryable}}
}

func fine() api.AttemptReport {
	return api.AttemptReport{State: api.AttemptSucceeded, Output: json.RawMessage(`{}`)}
}

// eventLog appends as the real one does: by the number it wants next.
type eventLog struct {
	mu    sync.Mutex
	next  map[string]uint64
	lines map[string][]api.Event
	down  bool
	took  time.Duration // by the next append
}

func (l *eventLog) AppendState(_ context.Context, job string, first uint64, events []api.Event) (uint64, error) {
	l.mu.Lock()
	took := l.took
	l.took = 0
	l.mu.Unlock()
	time.Sleep(took)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return 0, errDown
	}
	if l.next[job] == 0 {
		l.next[job] = 1
	}
	if first > l.next[job] {
		return l.next[job], nil
	}
	for _, e := range events {
		if e.SourceSeq == l.next[job] {
			l.lines[job] = append(l.lines[job], e)
			l.next[job]++
		}
	}
	return l.next[job], nil
}

func (l *eventLog) Last(_ context.Context, job string, fence uint64, n int) ([]api.Event, error) {
	if job == "" || n != 50 {
		return nil, fmt.Errorf("asked for %d events of %q", n, job)
	}
	return []api.Event{{RunID: job, Fence: fence, Message: "the last words"}}, nil
}

func (l *eventLog) setDown(down bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.down = down
}

// story returns a job's STATE events, and fails on a hole or a repeat.
func (l *eventLog) story(t *testing.T, job string) string {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	out := ""
	for i, e := range l.lines[job] {
		if e.SourceSeq != uint64(i+1) || e.Level != api.LevelState || e.RunID != job {
			t.Fatalf("event %d is %+v", i+1, e)
		}
		out += e.Message + "\n"
	}
	return out
}

type publisher struct {
	mu       sync.Mutex
	failures int
	done     []string
}

func (p *publisher) Publish(_ context.Context, s api.Stage) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.failures > 0 {
		p.failures--
		return errDown
	}
	p.done = append(p.done, s.JobID+"/"+s.Name)
	return nil
}
