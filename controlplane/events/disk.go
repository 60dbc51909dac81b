package events

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// DiskConfig says where the log lies.
type DiskConfig struct {
	Dir string // made if missing
	// OpenJobs is how many jobs' files are open at once; 0 means 128. A job that
	// is in use is never closed.
	OpenJobs int
	// SegmentBytes is where a new segment begins; 0 means 4 MiB.
	SegmentBytes int64
	// RingEvents is how many of a job's newest events stay in memory for the
	// readers that follow; 0 means 512.
	RingEvents int
	// KeepBytes and KeepFor bound what is kept of one job's stream: whole
	// segments that are beyond go, oldest first, when a new one begins; the
	// newest stays. 0 keeps all.
	KeepBytes int64
	KeepFor   time.Duration
	// Base says what of a job is archived; nil means nothing ever is.
	Base func(job string) Base
	Now  func() time.Time // nil means time.Now
	Log  *slog.Logger
}

// Disk is a Log of segments on the local disk, one folder per job.
type Disk struct {
	config DiskConfig

	mu     sync.Mutex
	closed bool
	open   map[string]*list.Element // of *handle
	recent *list.List               // front: used last
	bells  map[string]*bell
}

// handle is a job's open log with the number of calls that use it.
type handle struct {
	job  string
	refs int
	once sync.Once
	log  *jobLog
	err  error
}

// bell wakes those who wait for a job's next event.
type bell struct {
	waiting int
	ch      chan struct{}
}

var _ Log = (*Disk)(nil)

// OpenDisk opens the log. Jobs are opened when they are used.
func OpenDisk(c DiskConfig) (*Disk, error) {
	if c.OpenJobs <= 0 {
		c.OpenJobs = 128
	}
	if c.SegmentBytes <= 0 {
		c.SegmentBytes = 4 << 20
	}
	if c.RingEvents <= 0 {
		c.RingEvents = 512
	}
	if c.Log == nil {
		c.Log = slog.Default()
	}
	if c.Base == nil {
		c.Base = func(string) Base { return Base{} }
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if err := os.MkdirAll(c.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("events: make %s: %w", c.Dir, err)
	}
	return &Disk{config: c, open: map[string]*list.Element{}, recent: list.New(), bells: map[string]*bell{}}, nil
}

// with calls fn with a job's log. create makes a log for a new job; without, fn
// is not called for one.
func (d *Disk) with(job string, create bool, fn func(*jobLog) error) error {
	dir := filepath.Join(d.config.Dir, job)
	if !create && !d.isOpen(job) {
		if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
			return d.alive()
		}
	}
	h, err := d.acquire(job)
	if err != nil {
		return err
	}
	h.once.Do(func() {
		h.log, h.err = openJob(dir, job, d.config, func() { d.ring(job) })
	})
	if err = h.err; err == nil {
		err = h.log.agree(d.config.Base(job))
	}
	if err == nil {
		err = fn(h.log)
	}
	d.release(h)
	return err
}

func (d *Disk) isOpen(job string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open[job] != nil
}

func (d *Disk) alive() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return ErrClosed
	}
	return nil
}

func (d *Disk) acquire(job string) (*handle, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, ErrClosed
	}
	if e := d.open[job]; e != nil {
		d.recent.MoveToFront(e)
		h := e.Value.(*handle)
		h.refs++
		return h, nil
	}
	h := &handle{job: job, refs: 1}
	d.open[job] = d.recent.PushFront(h)
	return h, nil
}

// release ends a use. A log that could not be opened or is broken is forgotten,
// so that the next call opens it anew and repairs it; the least recently used
// idle one makes room.
func (d *Disk) release(h *handle) {
	d.mu.Lock()
	var out []*handle
	h.refs--
	if h.refs == 0 && (h.err != nil || h.log.isBroken()) {
		out = d.forgetLocked(out, h)
	}
	for e := d.recent.Back(); e != nil && d.recent.Len() > d.config.OpenJobs; {
		previous := e.Prev()
		if idle := e.Value.(*handle); idle.refs == 0 {
			out = d.forgetLocked(out, idle)
		}
		e = previous
	}
	d.mu.Unlock()
	// Closing takes the logs' own locks, so it comes after. An idle log has
	// nothing to write: whoever opens the job meanwhile reads all of it.
	for _, h := range out {
		if err := h.log.close(); err != nil {
			d.config.Log.Warn("an event log did not close cleanly", "job", h.job, "err", err)
		}
	}
}

// forgetLocked takes a handle out; those that must be closed are appended.
func (d *Disk) forgetLocked(out []*handle, h *handle) []*handle {
	if e := d.open[h.job]; e != nil && e.Value.(*handle) == h {
		delete(d.open, h.job)
		d.recent.Remove(e)
		if h.log != nil {
			out = append(out, h)
		}
	}
	return out
}

// Append implements Log.
func (d *Disk) Append(ctx context.Context, job, source string, firstSeq uint64, events []api.Event) (next uint64, err error) {
	if err := checkNames(job, source); err != nil {
		return 0, err
	}
	if firstSeq == 0 {
		return 0, fmt.Errorf("events: lines are numbered from 1, this batch starts at 0")
	}
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	err = d.with(job, true, func(l *jobLog) error {
		next, err = l.append(source, firstSeq, events)
		return err
	})
	return next, err
}

// Next implements Log.
func (d *Disk) Next(ctx context.Context, job, source string) (uint64, error) {
	if err := checkNames(job, source); err != nil {
		return 0, err
	}
	next := d.config.Base(job).Sources[source] + 1
	err := d.with(job, false, func(l *jobLog) error {
		next = l.nextOf(source)
		return nil
	})
	return next, err
}

// Read implements Log.
func (d *Disk) Read(ctx context.Context, job string, after uint64, max int) (out []api.Event, err error) {
	if err := checkNames(job, SourceState); err != nil {
		return nil, err
	}
	if max <= 0 {
		return nil, nil
	}
	err = d.with(job, false, func(l *jobLog) error {
		out, err = l.read(ctx, after, max)
		return err
	})
	return out, err
}

// LastOf implements Log.
func (d *Disk) LastOf(ctx context.Context, job, source string, n int) (out []api.Event, err error) {
	if err := checkNames(job, source); err != nil {
		return nil, err
	}
	if n <= 0 {
		return nil, nil
	}
	err = d.with(job, false, func(l *jobLog) error {
		out, err = l.lastOf(ctx, source, n)
		return err
	})
	return out, err
}

// Wait implements Log.
func (d *Disk) Wait(ctx context.Context, job string, after uint64) error {
	if err := checkNames(job, SourceState); err != nil {
		return err
	}
	for {
		ch, leave := d.listen(job)
		last := d.config.Base(job).Last
		err := d.with(job, false, func(l *jobLog) error {
			last = l.last()
			return nil
		})
		if err != nil || last > after {
			leave()
			return err
		}
		select {
		case <-ctx.Done():
			leave()
			return ctx.Err()
		case <-ch:
			leave()
		}
	}
}

// Position implements Log.
func (d *Disk) Position(_ context.Context, job string) (at Position, err error) {
	if err := checkNames(job, SourceState); err != nil {
		return at, err
	}
	base := d.config.Base(job)
	at = Position{Life: base.Life, First: base.Last + 1, Last: base.Last, Sources: base.Sources}
	err = d.with(job, false, func(l *jobLog) error {
		at, err = l.position()
		return err
	})
	return at, err
}

// Life implements Log.
func (d *Disk) Life(_ context.Context, job string) (life string, err error) {
	if err := checkNames(job, SourceState); err != nil {
		return "", err
	}
	life = d.config.Base(job).Life
	err = d.with(job, false, func(l *jobLog) error {
		life = l.lifeNow()
		return nil
	})
	return life, err
}

// listen returns a channel that closes at the job's next event.
func (d *Disk) listen(job string) (ch <-chan struct{}, leave func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.bells[job]
	if b == nil {
		b = &bell{ch: make(chan struct{})}
		d.bells[job] = b
	}
	b.waiting++
	return b.ch, func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		if b.waiting--; b.waiting == 0 && d.bells[job] == b {
			delete(d.bells, job)
		}
	}
}

// ring wakes everyone who waits for a job.
func (d *Disk) ring(job string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if b := d.bells[job]; b != nil {
		delete(d.bells, job)
		close(b.ch)
	}
}

// Close closes all files and wakes all waiters, whose calls return ErrClosed.
func (d *Disk) Close() error {
	d.mu.Lock()
	if d.closed {
		d.mu.Unlock()
		return nil
	}
	d.closed = true
	var handles []*handle
	for _, e := range d.open {
		handles = append(handles, e.Value.(*handle))
	}
	clear(d.open)
	d.recent.Init()
	for job, b := range d.bells {
		delete(d.bells, job)
		close(b.ch)
	}
	d.mu.Unlock()
	var faults []error
	for _, h := range handles {
		// Waits for an opening in progress; a call in progress finds it closed.
		h.once.Do(func() { h.err = ErrClosed })
		if h.log != nil {
			faults = append(faults, h.log.close())
		}
	}
	return errors.Join(faults...)
}
