package simulation

import (
	"errors"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/tunemesh/tunemesh/controlplane/consensus"
)

// disk holds one server's Raft log. A write takes the time of an fsync and is
// there, whole, when it returns; a crash in between keeps it or loses it. It
// stands in for the bbolt file, whose transactions promise the same.
type disk struct {
	rand *rand.Rand
	// forgets is a planted bug: a crash takes so many fsynced entries along.
	forgets uint64

	mu    sync.Mutex
	slow  time.Duration // the longest an fsync takes
	hangs bool
	freed chan struct{} // closed when it no longer hangs
	now   *logFile      // of the process that runs
}

func newDisk(seed, number uint64) *disk {
	return &disk{rand: rand.New(rand.NewPCG(seed, 1000+number)), slow: fastFsync, freed: make(chan struct{}), now: newLogFile()}
}

const fastFsync = 4 * time.Millisecond

// logFile is the log as one process sees it.
type logFile struct {
	mu          sync.Mutex
	disk        *disk
	entries     map[uint64]raft.Log
	first, last uint64
	stable      map[string][]byte
	// pending are writes that are on their way to the disk, by their number.
	pending map[uint64]func()
	next    uint64
}

func newLogFile() *logFile {
	return &logFile{entries: map[uint64]raft.Log{}, stable: map[string][]byte{}, pending: map[uint64]func(){}}
}

// open gives the log to a process that starts.
func (d *disk) open(string) (consensus.Log, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.now.disk = d
	return d.now, nil
}

// crash takes the log from the process that runs: what it writes from now on is
// written nowhere. Each write that was under way is lost or kept whole.
func (d *disk) crash() {
	d.mu.Lock()
	defer d.mu.Unlock()
	old := d.now
	old.mu.Lock()
	defer old.mu.Unlock()
	kept := newLogFile()
	kept.take(old)
	// Raft has one write at a time under way, and it may be whole on the disk
	// though nobody was told.
	for n := uint64(0); n < old.next; n++ {
		write := old.pending[n]
		if write == nil {
			continue
		}
		if d.rand.IntN(2) == 0 {
			continue
		}
		before := newLogFile()
		before.take(old)
		write()
		kept.take(old)
		old.take(before)
	}
	for range d.forgets {
		if kept.last > kept.first {
			delete(kept.entries, kept.last)
			kept.last--
		}
	}
	d.now = kept
	// Who hangs on the old process's disk is dead and may end.
	close(d.freed)
	d.freed, d.hangs = make(chan struct{}), false
}

// hang makes writes wait until the disk is freed.
func (d *disk) hang() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.hangs = true
}

func (d *disk) heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow, d.hangs = fastFsync, false
	close(d.freed)
	d.freed = make(chan struct{})
}

func (d *disk) setSlow(most time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slow = most
}

// take copies what is on another file.
func (f *logFile) take(from *logFile) {
	f.entries, f.first, f.last, f.stable = maps.Clone(from.entries), from.first, from.last, maps.Clone(from.stable)
}

// write has a change on the disk when it returns.
func (f *logFile) write(change func()) error {
	f.mu.Lock()
	number := f.next
	f.next++
	f.pending[number] = change
	f.mu.Unlock()

	d := f.disk
	d.mu.Lock()
	wait := time.Duration(d.rand.Int64N(int64(d.slow)))
	hangs, freed := d.hangs, d.freed
	d.mu.Unlock()
	time.Sleep(wait)
	if hangs {
		<-freed
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.pending, number)
	change()
	return nil
}

// FirstIndex implements raft.LogStore.
func (f *logFile) FirstIndex() (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.first, nil
}

// LastIndex implements raft.LogStore.
func (f *logFile) LastIndex() (uint64, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.last, nil
}

// GetLog implements raft.LogStore.
func (f *logFile) GetLog(index uint64, l *raft.Log) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	e, ok := f.entries[index]
	if !ok {
		return raft.ErrLogNotFound
	}
	*l = e
	return nil
}

// StoreLog implements raft.LogStore.
func (f *logFile) StoreLog(l *raft.Log) error { return f.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (f *logFile) StoreLogs(logs []*raft.Log) error {
	list := make([]raft.Log, len(logs))
	for i, l := range logs {
		list[i] = *l
	}
	return f.write(func() {
		for _, l := range list {
			f.entries[l.Index] = l
			if f.first == 0 || l.Index < f.first {
				f.first = l.Index
			}
			f.last = max(f.last, l.Index)
		}
	})
}

// DeleteRange implements raft.LogStore; both ends belong to the range.
func (f *logFile) DeleteRange(from, to uint64) error {
	return f.write(func() {
		for i := from; i <= to; i++ {
			delete(f.entries, i)
		}
		switch {
		case len(f.entries) == 0:
			f.first, f.last = 0, 0
		case from <= f.first:
			f.first = to + 1
		default:
			f.last = from - 1
		}
	})
}

// Set implements raft.StableStore.
func (f *logFile) Set(key, value []byte) error {
	name, copied := string(key), append([]byte{}, value...)
	return f.write(func() { f.stable[name] = copied })
}

// Get implements raft.StableStore: nil if there is none.
func (f *logFile) Get(key []byte) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.stable[string(key)], nil
}

// SetUint64 implements raft.StableStore.
func (f *logFile) SetUint64(key []byte, v uint64) error {
	b := make([]byte, 8)
	for i := range b {
		b[i] = byte(v >> (56 - 8*i))
	}
	return f.Set(key, b)
}

// GetUint64 implements raft.StableStore: 0 if there is none.
func (f *logFile) GetUint64(key []byte) (uint64, error) {
	b, err := f.Get(key)
	if err != nil || len(b) == 0 {
		return 0, err
	}
	if len(b) != 8 {
		return 0, errors.New("a number has 8 bytes")
	}
	var v uint64
	for _, c := range b {
		v = v<<8 | uint64(c)
	}
	return v, nil
}

// Close implements consensus.Log.
func (f *logFile) Close() error { return nil }
