package kernel

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// Parallel calls f(worker, i) for every i in [0, n), each once, on up to
// GOMAXPROCS goroutines that take the next i when they are free: a static split
// would let one busy processor stall the whole. It returns when all are done.
// Calls with the same worker number never overlap. f must not call Parallel.
func (e *Engine) Parallel(n int, f func(worker, i int)) {
	if n == 1 || e.team == nil && runtime.GOMAXPROCS(0) == 1 {
		e.reserve(1)
		for i := range n {
			f(0, i)
		}
		return
	}
	if n > 0 {
		e.With(func() { e.team.run(n, f) })
	}
}

// With runs f with a team of workers that stays for all of f's calls of
// Parallel. Between them the workers spin for a moment before they sleep: waking
// a sleeping thread takes tens of microseconds, as long as many of the products
// of a small model. The workers end before With returns.
func (e *Engine) With(f func()) {
	if e.team != nil {
		f()
		return
	}
	workers := runtime.GOMAXPROCS(0)
	e.reserve(workers)
	t := &team{}
	e.team = t
	var wg sync.WaitGroup
	for w := 1; w < workers; w++ {
		s := &sleeper{wake: make(chan struct{}, 1)}
		t.workers = append(t.workers, s)
		wg.Go(func() { t.work(w, s) })
	}
	defer func() {
		e.team = nil
		t.publish(&job{stop: true})
		wg.Wait()
	}()
	f()
}

func (e *Engine) reserve(workers int) {
	for len(e.scratch) < workers {
		e.scratch = append(e.scratch, scratch{})
	}
}

// job is one call of Parallel.
type job struct {
	f       func(worker, i int)
	n       int64
	stop    bool
	next    atomic.Int64 // the next i to take
	pending atomic.Int64 // calls of f that have not returned
}

// team is the caller of With, worker 0, and the workers beside it.
type team struct {
	job     atomic.Pointer[job]
	workers []*sleeper
	lead    sleeper
}

func (t *team) run(n int, f func(worker, i int)) {
	j := &job{f: f, n: int64(n)}
	j.pending.Store(j.n)
	if t.lead.wake == nil {
		t.lead.wake = make(chan struct{}, 1)
	}
	t.publish(j)
	t.take(0, j)
	t.lead.until(func() bool { return j.pending.Load() == 0 })
}

func (t *team) publish(j *job) {
	t.job.Store(j)
	for _, s := range t.workers {
		s.rouse()
	}
}

// take runs what is left of a job. A worker that comes too late finds nothing
// to take, so nobody has to wait for it.
func (t *team) take(worker int, j *job) {
	for {
		i := j.next.Add(1) - 1
		if i >= j.n {
			return
		}
		j.f(worker, int(i))
		if j.pending.Add(-1) == 0 && worker != 0 {
			t.lead.rouse()
		}
	}
}

func (t *team) work(worker int, s *sleeper) {
	var last *job
	for {
		s.until(func() bool { return t.job.Load() != last })
		last = t.job.Load()
		if last.stop {
			return
		}
		t.take(worker, last)
	}
}

// sleeper waits for a condition that another goroutine makes true, first
// spinning, then asleep.
type sleeper struct {
	asleep atomic.Bool
	wake   chan struct{}
}

// spins is how often a condition is looked at before sleeping: about 50 µs.
const spins = 400

// until returns once done holds. Whoever makes it true calls rouse afterwards.
func (s *sleeper) until(done func() bool) {
	for range spins {
		if done() {
			return
		}
		pause()
	}
	for !done() {
		s.asleep.Store(true)
		if done() && s.asleep.CompareAndSwap(true, false) {
			return
		}
		// Either the condition does not hold yet, or rouse has seen the flag and
		// its token must be taken.
		<-s.wake
	}
}

func (s *sleeper) rouse() {
	if s.asleep.Load() && s.asleep.CompareAndSwap(true, false) {
		s.wake <- struct{}{}
	}
}
