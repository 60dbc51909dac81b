package inference

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/trainer/model"
)

// Faults that the caller can do something about.
var (
	ErrBusy    = errors.New("inference: too many requests wait; try again or ask another replica")
	ErrStopped = errors.New("inference: the service stops")
)

// Limits bound what a service takes on.
type Limits struct {
	// Concurrent requests are computed in turn, token by token; 4. Each holds
	// its keys and values in memory.
	Concurrent int
	// Waiting requests are kept beyond that; 64.
	Waiting int
}

func (l Limits) withDefaults() Limits {
	if l.Concurrent <= 0 {
		l.Concurrent = 4
	}
	if l.Waiting <= 0 {
		l.Waiting = 64
	}
	return l
}

// chunk is how many tokens of a prompt are computed at a time, so that a long
// prompt does not hold the others up.
const chunk = 256

// request is one text being written.
type request struct {
	ctx     context.Context
	prompt  []int32
	most    int // tokens to write
	sampler *sampler

	out chan step // buffered for all that may come; closed at the end

	// The rest is the engine's own.
	began   time.Time
	session *model.Session
	written int
}

// step is a token, or how it ended.
type step struct {
	token  int32
	began  time.Time // when the request got its turn
	at     time.Time // when the token was there
	reason string    // "", stop or length
	err    error
}

// engine computes requests on one goroutine.
type engine struct {
	network Network
	stop    []int32
	limits  Limits
	now     func() time.Time

	queue   chan *request
	closing chan struct{}
	once    sync.Once
	work    sync.WaitGroup
}

func startEngine(l *Loaded, limits Limits, now func() time.Time) *engine {
	limits = limits.withDefaults()
	e := &engine{network: l.Network, stop: l.stop, limits: limits, now: now, queue: make(chan *request, limits.Waiting), closing: make(chan struct{})}
	e.work.Go(e.run)
	return e
}

// submit queues a request. Its steps come on r.out.
func (e *engine) submit(r *request) error {
	r.out = make(chan step, r.most+1)
	select {
	case <-e.closing:
		return ErrStopped
	default:
	}
	select {
	case e.queue <- r:
		return nil
	default:
		return ErrBusy
	}
}

// close ends all requests with ErrStopped.
func (e *engine) close() {
	e.once.Do(func() { close(e.closing) })
	e.work.Wait()
}

func (e *engine) run() {
	var active []*request
	for {
		active = e.admit(active)
		if len(active) == 0 {
			select {
			case r := <-e.queue:
				active = append(active, r)
				continue
			case <-e.closing:
			}
		}
		select {
		case <-e.closing:
			e.endAll(active)
			return
		default:
		}
		kept := active[:0]
		for _, r := range active {
			if !e.advance(r) {
				kept = append(kept, r)
			}
		}
		active = kept
	}
}

// admit takes requests up to the limit.
func (e *engine) admit(active []*request) []*request {
	for len(active) < e.limits.Concurrent {
		select {
		case r := <-e.queue:
			active = append(active, r)
		default:
			return active
		}
	}
	return active
}

func (e *engine) endAll(active []*request) {
	for {
		select {
		case r := <-e.queue:
			active = append(active, r)
			continue
		default:
		}
		break
	}
	for _, r := range active {
		r.end(step{err: ErrStopped})
	}
}

// advance computes a request's next piece; it says whether the request is over.
func (e *engine) advance(r *request) (over bool) {
	if r.ctx.Err() != nil {
		r.end(step{err: r.ctx.Err()})
		return true
	}
	if r.session == nil {
		r.session, r.began = e.network.NewSession(), e.now()
	}
	piece := r.prompt[:min(len(r.prompt), chunk)]
	logits, err := r.session.Append(piece)
	if err != nil {
		r.end(step{err: fmt.Errorf("inference: %w", err)})
		return true
	}
	if r.prompt = r.prompt[len(piece):]; len(r.prompt) > 0 {
		return false
	}
	token := r.sampler.next(logits)
	for _, s := range e.stop {
		if token == s {
			r.end(step{reason: "stop"})
			return true
		}
	}
	r.written++
	r.out <- step{token: token, began: r.began, at: e.now()}
	if r.written >= r.most {
		r.end(step{reason: "length"})
		return true
	}
	r.prompt = []int32{token}
	return false
}

func (r *request) end(s step) {
	r.out <- s
	close(r.out)
}
