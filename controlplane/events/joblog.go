package events

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"github.com/tunemesh/tunemesh/api"
)

// marker is a place in a segment from which reading can start.
type marker struct {
	seq    uint64
	offset int64
}

// markEvery is how many bytes lie between two markers.
const markEvery = 64 << 10

// segment is one file of a job's log.
type segment struct {
	path string
	base uint64 // number of its first event
	size int64  // in bytes, once it is full
	// marks are known for the segments that were read or written since opening.
	marks []marker
}

// kept is an event in memory with the bytes of its JSON.
type kept struct {
	event api.Event
	bytes int
}

// keptBytes bounds what the newest events of a job hold in memory, twice over:
// with 128 open jobs that is 64 MiB at the very most.
const keptBytes = 256 << 10

// jobLog is one job's stream. An event can be read once it is durable, not
// before: its number could else be given to another event after a crash.
type jobLog struct {
	dir, job string
	life     string // see Position
	seed     uint64 // see header
	checked  uint64 // end of the base that this stream is known to agree with
	config   DiskConfig
	ring     func() // wakes those who wait

	// syncing serialises fsync, rolling and closing. It is taken before mu.
	syncing sync.Mutex

	mu        sync.Mutex
	file      *os.File // the newest segment
	size      int64
	segments  []segment
	sources   map[string]uint64 // last number of each source, written
	written   uint64            // number of the last event written
	committed uint64            // number of the last event that is durable
	pending   []kept            // written and not yet durable
	newest    []kept            // the last durable ones
	inMemory  int               // bytes of JSON of newest
	newLife   bool              // the life is not on the disk yet
	broken    error
}

// append stores a batch; see Log.Append. Concurrent batches share an fsync: the
// one that syncs first commits what the others wrote meanwhile.
func (l *jobLog) append(source string, firstSeq uint64, events []api.Event) (uint64, error) {
	if err := l.rollIfFull(); err != nil {
		return 0, err
	}
	l.mu.Lock()
	next, err := l.writeLocked(source, firstSeq, events)
	upto := l.written
	l.mu.Unlock()
	if err != nil {
		return next, err
	}
	// A repeat waits too: what it repeats may not be durable yet.
	return next, l.commit(upto)
}

func (l *jobLog) writeLocked(source string, firstSeq uint64, events []api.Event) (next uint64, err error) {
	if l.broken != nil {
		return 0, l.broken
	}
	next = l.sources[source] + 1
	if firstSeq > next {
		l.lostLocked()
		return next, ErrHole
	}
	var lines []byte
	stored := make([]kept, 0, len(events))
	last := next - 1
	for _, n := range Number(firstSeq, events) {
		if n.Number < next {
			continue // stored already
		}
		e := n.Event
		e.Seq = l.written + 1 + uint64(len(stored))
		e.RunID = l.job
		data, e, err := encodeEvent(e)
		if err != nil {
			return next, err
		}
		lines, last = appendLine(lines, source, n.Number, data), n.Number
		stored = append(stored, kept{e, len(data)})
	}
	if len(stored) == 0 {
		return next, nil
	}
	if _, err := l.file.WriteAt(lines, l.size); err != nil {
		err = fmt.Errorf("events: write %s: %w", l.file.Name(), err)
		if cutErr := l.file.Truncate(l.size); cutErr != nil {
			l.broken = errors.Join(err, cutErr)
		}
		return next, err
	}
	l.markLocked(l.written+1, l.size)
	l.size += int64(len(lines))
	l.written += uint64(len(stored))
	l.sources[source] = last
	l.pending = append(l.pending, stored...)
	return last + 1, nil
}

func (l *jobLog) markLocked(seq uint64, offset int64) {
	s := &l.segments[len(l.segments)-1]
	if n := len(s.marks); n == 0 || offset-s.marks[n-1].offset >= markEvery {
		s.marks = append(s.marks, marker{seq, offset})
	}
}

// commit makes everything up to a number durable and readable.
func (l *jobLog) commit(upto uint64) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	return l.commitSyncing(upto)
}

func (l *jobLog) commitSyncing(upto uint64) error {
	l.mu.Lock()
	if l.broken != nil || l.committed >= upto {
		defer l.mu.Unlock()
		return l.broken
	}
	file, written := l.file, l.written
	l.mu.Unlock()
	err := file.Sync()
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		// The kernel may have dropped the pages: only reading the file again
		// tells what is there.
		l.broken = fmt.Errorf("events: fsync %s: %w", file.Name(), err)
		return l.broken
	}
	n := int(written - l.committed)
	for _, k := range l.pending[:n] {
		l.inMemory += k.bytes
	}
	l.newest = append(l.newest, l.pending[:n]...)
	l.pending = slices.Delete(l.pending, 0, n)
	l.trimLocked()
	l.committed = written
	l.ring()
	return nil
}

// trimLocked lets go of the oldest of the newest events; it waits until there
// are twice as many as shall stay, so that not every commit moves them all.
func (l *jobLog) trimLocked() {
	if len(l.newest) <= 2*l.config.RingEvents && l.inMemory <= 2*keptBytes {
		return
	}
	over := 0
	for over < len(l.newest) && (len(l.newest)-over > l.config.RingEvents || l.inMemory > keptBytes) {
		l.inMemory -= l.newest[over].bytes
		over++
	}
	l.newest = slices.Delete(l.newest, 0, over)
}

// rollIfFull begins a new segment where the newest is full.
func (l *jobLog) rollIfFull() error {
	l.mu.Lock()
	full := l.broken == nil && l.fullLocked()
	l.mu.Unlock()
	if !full {
		return nil
	}
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	upto := l.written
	l.mu.Unlock()
	if err := l.commitSyncing(upto); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.fullLocked() || l.committed < l.written {
		return nil // another batch came first; the next one rolls
	}
	old, size := l.file, l.size
	if err := l.beginSegmentLocked(); err != nil {
		return err
	}
	if n := len(l.segments); n > 1 {
		l.segments[n-2].size = size
	}
	l.retainLocked()
	if err := old.Close(); err != nil {
		return fmt.Errorf("events: close %s: %w", old.Name(), err)
	}
	return nil
}

// fullLocked says whether the next batch goes into a new segment: where the
// newest is full, and where the stream's life is not yet on the disk.
func (l *jobLog) fullLocked() bool {
	return l.size >= l.config.SegmentBytes || l.newLife
}

// beginSegmentLocked makes the next segment with its header, durably.
func (l *jobLog) beginSegmentLocked() error {
	base := l.written + 1
	path := filepath.Join(l.dir, fmt.Sprintf("%020d.log", base))
	data, err := json.Marshal(header{Version: 1, Sources: l.sources, Life: l.life, Seed: l.seed})
	if err != nil {
		return fmt.Errorf("events: encode header: %w", err)
	}
	line := appendLine(nil, headerSource, base, data)
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("events: make segment: %w", err)
	}
	if _, err = f.Write(line); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = syncDir(l.dir)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("events: make segment %s: %w", path, err), f.Close(), os.Remove(path))
	}
	l.file, l.size, l.newLife = f, int64(len(line)), false
	if n := len(l.segments); n > 0 && l.segments[n-1].path == path { // it had no events
		l.segments = l.segments[:n-1]
	}
	l.segments = append(l.segments, segment{path: path, base: base})
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}

func (l *jobLog) nextOf(source string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.sources[source] + 1
}

func (l *jobLog) last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.committed
}

func (l *jobLog) isBroken() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.broken != nil
}

// read returns durable events after a number: from memory where they are still
// there, else from the segment that holds them.
func (l *jobLog) read(ctx context.Context, after uint64, max int) ([]api.Event, error) {
	l.mu.Lock()
	if l.broken != nil {
		defer l.mu.Unlock()
		return nil, l.broken
	}
	if after >= l.committed {
		l.mu.Unlock()
		return nil, nil
	}
	if oldest := l.segments[0].base; after+1 < oldest {
		l.mu.Unlock()
		next, err := l.read(ctx, oldest-1, 1)
		if err != nil || len(next) == 0 {
			return nil, err
		}
		return []api.Event{Gone(l.job, after+1, oldest-1, next[0])}, nil
	}
	if first := l.committed - uint64(len(l.newest)); after >= first {
		var out []api.Event
		for _, k := range l.newest[after-first:] {
			if len(out) < max {
				out = append(out, k.event)
			}
		}
		l.mu.Unlock()
		return out, nil
	}
	i := l.segmentOfLocked(after + 1)
	s := l.segments[i]
	start := marker{seq: s.base, offset: -1}
	for _, m := range s.marks {
		if m.seq <= after+1 {
			start = m
		}
	}
	committed := l.committed
	l.mu.Unlock()

	var out []api.Event
	bytes := 0
	err := scan(ctx, s.path, start, func(seq uint64, r record) (bool, error) {
		if seq > committed || len(out) >= max || bytes >= maxRead {
			return false, nil
		}
		if seq <= after {
			return true, nil
		}
		var e api.Event
		if err := json.Unmarshal(r.json, &e); err != nil {
			return false, fmt.Errorf("events: %s: event %d: %w", s.path, seq, err)
		}
		bytes += len(r.json)
		out = append(out, e)
		return true, nil
	})
	if err == nil && len(out) == 0 {
		err = fmt.Errorf("events: %s: event %d is damaged or missing", s.path, after+1)
	}
	return out, err
}

// segmentOfLocked returns the place of the segment that holds a number.
func (l *jobLog) segmentOfLocked(seq uint64) int {
	i, found := slices.BinarySearchFunc(l.segments, seq, func(s segment, seq uint64) int {
		switch {
		case s.base < seq:
			return -1
		case s.base > seq:
			return 1
		}
		return 0
	})
	if !found {
		i--
	}
	return max(i, 0)
}

// lastOf reads segments from the newest back until it has n of a source.
func (l *jobLog) lastOf(ctx context.Context, source string, n int) ([]api.Event, error) {
	l.mu.Lock()
	segments := slices.Clone(l.segments)
	committed := l.committed
	n = int(min(uint64(n), l.sources[source])) // there are no more, so look no further
	l.mu.Unlock()
	if n == 0 {
		return nil, nil
	}
	var out []api.Event
	for _, s := range slices.Backward(segments) {
		var found [][]byte
		err := scan(ctx, s.path, marker{seq: s.base, offset: -1}, func(seq uint64, r record) (bool, error) {
			if seq > committed {
				return false, nil
			}
			if r.source == source {
				found = append(found, slices.Clone(r.json))
				if len(found) > n {
					found = found[1:]
				}
			}
			return true, nil
		})
		if err != nil {
			return nil, err
		}
		part := make([]api.Event, len(found))
		for i, data := range found {
			if err := json.Unmarshal(data, &part[i]); err != nil {
				return nil, fmt.Errorf("events: %s: %w", s.path, err)
			}
		}
		if out = append(part, out...); len(out) >= n {
			return out[len(out)-n:], nil
		}
	}
	return out, nil
}

// scan calls fn for the lines of a segment from a place on (offset -1: its
// first event) until fn says stop, the end, or a line that is not whole.
func scan(ctx context.Context, path string, from marker, fn func(seq uint64, r record) (more bool, err error)) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("events: %w", err)
	}
	defer f.Close()
	if from.offset > 0 {
		if _, err := f.Seek(from.offset, io.SeekStart); err != nil {
			return fmt.Errorf("events: %w", err)
		}
	}
	in := bufio.NewReaderSize(f, 64<<10)
	if from.offset < 0 {
		if _, err := readLine(in); err != nil { // the header
			return fmt.Errorf("events: %s: %w", path, err)
		}
	}
	for seq := from.seq; ; seq++ {
		if seq%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		line, err := readLine(in)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("events: %s: %w", path, err)
		}
		r, ok := parseLine(line)
		if !ok {
			return nil
		}
		if more, err := fn(seq, r); err != nil || !more {
			return err
		}
	}
}

// readLine reads a line of at most twice MaxEvent, without its newline; a last
// line without one is the end.
func readLine(in *bufio.Reader) ([]byte, error) {
	line, err := in.ReadSlice('\n')
	if err == nil {
		return line[:len(line)-1], nil
	}
	var long []byte
	for errors.Is(err, bufio.ErrBufferFull) {
		if long = append(long, line...); len(long) > 2*MaxEvent {
			return nil, fmt.Errorf("a line is over %d bytes", 2*MaxEvent)
		}
		line, err = in.ReadSlice('\n')
	}
	if err != nil {
		return nil, io.EOF
	}
	long = append(long, line...)
	return long[:len(long)-1], nil
}

// close makes everything durable and closes the file.
func (l *jobLog) close() error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	upto, broken := l.written, l.broken
	l.mu.Unlock()
	var err error
	if broken == nil {
		err = l.commitSyncing(upto)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken == nil {
		l.broken = ErrClosed
	}
	return errors.Join(err, l.file.Close())
}
