package redis

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
)

const (
	// block is how long Redis holds a read that finds nothing. Cancelling a
	// context does not wake one, so an idle follower ends this late.
	block = time.Second
	// lookEvery is how often a follower asks whether its stream is still the one
	// it follows.
	lookEvery = time.Second
	// linger is how long a follower outlives its last waiter: a tail that writes
	// what it got comes back soon.
	linger = 5 * time.Second
	// readCount bounds one blocking read.
	readCount = 256
	// keptBytes bounds what the newest events of a followed job hold in memory,
	// twice over.
	keptBytes = 256 << 10

	firstBackoff = 50 * time.Millisecond
	lastBackoff  = 2 * time.Second
)

// follower reads one job's stream for all of this process's readers, and keeps
// the newest events for them. It is the only one that blocks in Redis for the job.
type follower struct {
	log *Log
	job string

	// Guarded by log.mu.
	waiting int
	idle    time.Time // since when nobody waits

	mu sync.Mutex
	// ready: Redis answers, and gen and last are those of its stream.
	ready bool
	// doubts counts the reasons to look at the counters again; what was read
	// before the newest of them is not to be trusted.
	doubts int
	looked time.Time
	gen    string
	last   uint64 // newest event that was read
	told   uint64 // newest event that an append of this process was told of
	newest []entry
	bytes  int // of JSON of newest
	bell   chan struct{}
}

// Wait implements events.Log. While Redis is away it goes on waiting.
func (l *Log) Wait(ctx context.Context, job string, after uint64) error {
	if err := events.CheckNames(job, events.SourceState); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	f, err := l.join(job)
	if err != nil {
		return err
	}
	defer l.leave(f)
	for {
		there, bell := f.beyond(after)
		if there {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.life.Done():
			return events.ErrClosed
		case <-bell:
		}
	}
}

// join returns the job's follower, started if there is none.
func (l *Log) join(job string) (*follower, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, events.ErrClosed
	}
	f := l.followers[job]
	if f == nil {
		f = &follower{log: l, job: job, bell: make(chan struct{})}
		l.followers[job] = f
		l.readers.Go(f.run)
	}
	f.waiting++
	return f, nil
}

func (l *Log) leave(f *follower) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.waiting--; f.waiting == 0 {
		f.idle = time.Now()
	}
}

// following returns the job's follower or nil.
func (l *Log) following(job string) *follower {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.followers[job]
}

// over says whether a follower shall end; nobody finds it any more then.
func (l *Log) over(f *follower) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.closed && (f.waiting > 0 || time.Since(f.idle) < linger) {
		return false
	}
	delete(l.followers, f.job)
	return true
}

func (f *follower) run() {
	l, wait := f.log, firstBackoff
	for !l.over(f) {
		err := f.step(l.life)
		if err == nil {
			wait = firstBackoff
			if l.away.CompareAndSwap(true, false) {
				l.config.Log.Info("the event store answers again", "store", l.where)
			}
			continue
		}
		if l.life.Err() != nil {
			continue
		}
		f.doubt()
		if l.away.CompareAndSwap(false, true) {
			l.config.Log.Warn("events cannot be followed; trying again", "store", l.where, "job", f.job, "err", l.fault("follow", err))
		}
		// Not all followers at once.
		timer := time.NewTimer(wait/2 + rand.N(wait))
		select {
		case <-l.life.Done():
		case <-timer.C:
		}
		timer.Stop()
		wait = min(2*wait, lastBackoff)
	}
}

// step reads once, for at most the time of a block.
func (f *follower) step(ctx context.Context) error {
	l := f.log
	if look, doubts := f.mustLook(); look {
		gen, last, err := l.state(ctx, l.tails, f.job)
		if err != nil {
			return err
		}
		f.see(gen, last, doubts)
		return nil
	}
	stream, _ := l.keys(f.job)
	from, doubts := f.cursor()
	// Not XRead: go-redis would give a connection that died 10 s more.
	cmd := goredis.NewXStreamSliceCmd(ctx, "XREAD", "COUNT", readCount, "BLOCK", block.Milliseconds(), "STREAMS", stream, strconv.FormatUint(from, 10))
	cmd.SetFirstKeyPos(6)
	if err := l.tails.Process(ctx, cmd); err != nil && !errors.Is(err, goredis.Nil) {
		return err
	}
	var list []entry
	for _, s := range cmd.Val() {
		for _, m := range s.Messages {
			e, err := decode(f.job, m)
			if err != nil {
				return err
			}
			list = append(list, e)
		}
	}
	f.take(list, doubts)
	return nil
}

func (f *follower) mustLook() (look bool, doubts int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return !f.ready || time.Since(f.looked) >= lookEvery, f.doubts
}

func (f *follower) cursor() (from uint64, doubts int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last, f.doubts
}

// doubt makes the follower look at the counters before it reads on.
func (f *follower) doubt() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.doubts++
	f.ready = false
}

// see compares the counters with what is followed.
func (f *follower) see(gen string, last uint64, doubts int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if doubts != f.doubts {
		return
	}
	changed := !f.ready
	switch first := f.looked.IsZero(); {
	case first:
		f.gen, f.last = gen, last
		f.told = max(f.told, last)
	case f.gen != "" && gen != f.gen && last >= f.last && f.last == f.log.config.Base(f.job).Last:
		// The stream goes on after the archive.
		f.gen, f.newest, f.bytes = gen, nil, 0
	case (f.gen != "" && gen != f.gen) || last < f.last:
		f.log.config.Log.Warn("a job's stream in Redis was lost or went back; its senders send again from there",
			"job", f.job, "had", f.last, "has", last)
		f.gen, f.last, f.told = gen, last, last
		f.newest, f.bytes = nil, 0
		changed = true
	default:
		f.gen = gen
	}
	f.ready, f.looked = true, time.Now()
	if changed {
		f.ringLocked()
	}
}

// take adds events that were read.
func (f *follower) take(list []entry, doubts int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if doubts != f.doubts || len(list) == 0 {
		return
	}
	for _, e := range list {
		if e.event.Seq != f.last+1 { // something in between is gone
			f.newest, f.bytes = nil, 0
		}
		f.newest = append(f.newest, e)
		f.bytes += e.bytes
		f.last = e.event.Seq
	}
	f.trimLocked()
	f.ringLocked()
}

// trimLocked lets go of the oldest events in memory; it waits until there are
// twice as many as shall stay, so that not every read moves them all.
func (f *follower) trimLocked() {
	ring := f.log.config.RingEvents
	if len(f.newest) <= 2*ring && f.bytes <= 2*keptBytes {
		return
	}
	over := 0
	for over < len(f.newest) && (len(f.newest)-over > ring || f.bytes > keptBytes) {
		f.bytes -= f.newest[over].bytes
		over++
	}
	f.newest = slices.Delete(f.newest, 0, over)
}

// ringLocked wakes all who wait.
func (f *follower) ringLocked() {
	close(f.bell)
	f.bell = make(chan struct{})
}

// appended tells the follower what an append of this process was told: a read
// that follows must find it, and a stream of another life is noticed at once.
func (f *follower) appended(gen string, last uint64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if gen == f.gen {
		f.told = max(f.told, last)
		return
	}
	f.told = last
	f.doubts++
	f.ready = false
	f.ringLocked()
}

// beyond says whether there is an event above a number; if not, bell closes
// when there may be.
func (f *follower) beyond(after uint64) (there bool, bell <-chan struct{}) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last > after || (!f.ready && f.told > after), f.bell
}

// read returns events from memory; ok says that this is what Redis has.
func (f *follower) read(after uint64, max int) (out []api.Event, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.ready {
		return nil, false
	}
	if after >= f.last {
		return nil, after >= f.told
	}
	first := f.last - uint64(len(f.newest)) // of what is before the memory
	if after < first {
		return nil, false
	}
	for _, e := range f.newest[after-first:] {
		if len(out) == max {
			break
		}
		out = append(out, e.event)
	}
	return out, true
}

// life returns the name of the stream that is followed; ok says that it is known.
func (f *follower) life() (gen string, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.gen, f.ready && f.gen != ""
}
