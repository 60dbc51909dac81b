package cli

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/view"
)

// WatchOptions say how a job is watched. Only Out is needed.
type WatchOptions struct {
	Out io.Writer
	// Screen is what is known of Out; nil asks the operating system.
	Screen *Screen
	// JSON prints {"event": ...} per line, and {"job": ...} at the end.
	JSON bool
	// Hint is the last line of the live view while the job goes on.
	Hint string
	// Now is the clock; nil takes the system's.
	Now func() time.Time
	// Poll is how often the job's document is read beside its events; 0 means
	// every second.
	Poll time.Duration
}

// Watch shows a job until it has ended and returns it as it ended: drawn in
// place in a terminal, as plain lines elsewhere. Servers that go away for a
// while are waited for. When ctx ends, the job goes on and ctx's error is
// returned.
func Watch(ctx context.Context, m Watched, jobID string, o WatchOptions) (api.JobDetail, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Poll <= 0 {
		o.Poll = time.Second
	}
	if o.Screen == nil {
		s := screenOf(o.Out, os.Getenv)
		o.Screen = &s
	}
	w := &watcher{mesh: m, id: jobID, o: o, show: newShow(o)}
	return w.run(ctx)
}

// watcher joins the two streams that a view is made of.
type watcher struct {
	mesh  Watched
	id    string
	o     WatchOptions
	show  show
	state view.State
}

// polled is an answer to the question how the job is.
type polled struct {
	job   api.JobDetail
	nodes []api.Node // that run its stages
	err   error
}

func (w *watcher) run(ctx context.Context) (api.JobDetail, error) {
	job, err := w.mesh.Job(ctx, w.id)
	if err != nil {
		return job, err
	}
	w.state.SetJob(job)
	inner, cancel := context.WithCancel(ctx)
	in := feeds{events: make(chan arrival, 256), jobs: make(chan polled), look: make(chan struct{}, 1), refused: make(chan error, 1)}
	var workers sync.WaitGroup
	workers.Go(func() { w.follow(inner, in) })
	workers.Go(func() { w.poll(inner, in) })
	err = w.loop(ctx, in)
	cancel()
	workers.Wait()
	if err != nil {
		w.show.leave(&w.state)
		return w.state.Job, err
	}
	return w.state.Job, w.show.end(&w.state)
}

// feeds are the channels between the workers and the loop.
type feeds struct {
	events  chan arrival
	jobs    chan polled
	look    chan struct{} // asks for a look at the job now
	refused chan error
}

// arrival is an event, or the news that the server has no more of them.
type arrival struct {
	event    api.Event
	caughtUp bool
}

// loop shows what comes in until the job has ended and all its events are here.
func (w *watcher) loop(ctx context.Context, in feeds) error {
	tick := time.NewTicker(125 * time.Millisecond)
	defer tick.Stop()
	var patience <-chan time.Time // for events after the job's end
	complete := false             // all events up to now are here
	for {
		var err error
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err = <-in.refused:
		case a := <-in.events:
			if complete = a.caughtUp; complete {
				ask(in.look)
				break
			}
			w.state.Apply(a.event)
			err = w.show.event(&w.state, a.event)
		case p := <-in.jobs:
			if err = w.take(p); err == nil {
				err = w.show.job(&w.state)
			}
		case <-patience:
			complete = true
		case <-tick.C:
			err = w.show.tick(&w.state)
		}
		switch ended := w.state.Job.State.Terminal(); {
		case err != nil:
			return err
		case ended && complete:
			return nil
		case ended && patience == nil:
			patience = time.After(5 * time.Second)
		case !ended:
			patience = nil // somebody resumed it
		}
	}
}

func ask(look chan<- struct{}) {
	select {
	case look <- struct{}{}:
	default: // somebody has asked already
	}
}

// take notes an answer of the poll; a server that is away is only trouble.
func (w *watcher) take(p polled) error {
	if p.err == nil {
		w.state.Trouble = ""
		w.state.SetJob(p.job)
		w.state.SetNodes(p.nodes)
		return nil
	}
	if lasting(p.err) {
		return p.err
	}
	w.state.Trouble = explain(p.err).title + "; trying again, the job goes on"
	return nil
}

// follow delivers the job's events and asks for a look at the job whenever a
// state has changed.
func (w *watcher) follow(ctx context.Context, in feeds) {
	last := uint64(0)
	for {
		err := w.mesh.Events(ctx, w.id, last, true, func(e api.Event) error {
			select {
			case in.events <- arrival{event: e}:
			case <-ctx.Done():
				return ctx.Err()
			}
			last = e.Seq
			if e.Level == api.LevelState {
				ask(in.look)
			}
			return nil
		})
		if err != nil && lasting(err) {
			in.refused <- err
			return
		}
		if err == nil {
			select {
			case in.events <- arrival{caughtUp: true}:
			case <-ctx.Done():
				return
			}
		}
		select { // the job may be resumed, or the client gave up for now
		case <-ctx.Done():
			return
		case <-time.After(w.o.Poll):
		}
	}
}

// poll reads the job's document now and then: it knows why a stage waits, which
// no event says.
func (w *watcher) poll(ctx context.Context, in feeds) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-in.look:
		case <-time.After(w.o.Poll):
		}
		once, cancel := context.WithTimeout(ctx, 3*time.Second) // soon enough to say so where nobody answers
		job, err := w.mesh.Job(once, w.id)
		nodes := w.busy(once, job)
		cancel()
		select {
		case in.jobs <- polled{job, nodes, err}:
		case <-ctx.Done():
			return
		}
	}
}

// busy are the nodes that run stages of a job, where the mesh can be asked: at
// most three, since a view has few lines.
func (w *watcher) busy(ctx context.Context, job api.JobDetail) (out []api.Node) {
	mesh, ok := w.mesh.(interface {
		Node(ctx context.Context, id string) (api.Node, error)
	})
	known := map[string]bool{}
	for _, s := range job.Stages {
		if !ok || len(out) == 3 {
			break
		}
		if s.State != api.StageRunning || s.Node == "" || known[s.Node] {
			continue
		}
		known[s.Node] = true
		if n, err := mesh.Node(ctx, s.Node); err == nil {
			out = append(out, n)
		}
	}
	return out
}

// lasting says whether trying again is pointless: the server refuses.
func lasting(err error) bool {
	var p *api.Problem
	return errors.As(err, &p) && p.Status >= 400 && p.Status < 500 && p.Status != http.StatusTooManyRequests
}
