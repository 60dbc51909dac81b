package archive

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sort"
	"strconv"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
	"github.com/tunemesh/tunemesh/failpoint"
)

const (
	// cachedFrames bounds what is unpacked in memory: about a MiB each.
	cachedFrames  = 32
	cachedIndexes = 256
	// fetchTime bounds one read of the object store. It has its own time, since
	// others may wait for what one reader asked for first.
	fetchTime = 30 * time.Second
)

// Config wires a Log; all but Now are needed.
type Config struct {
	// Log is where events are appended, with a Base that is BaseOf Parts.
	Log     events.Log
	Objects Objects
	// Parts are the recorded parts of a job, oldest first.
	Parts func(job string) []api.EventArchive
	Dir   string // for temporary files; must be there
	Now   func() time.Time
}

// Log reads a job's archived events from the object store, and the rest from
// the log below; it appends there.
type Log struct {
	inner   events.Log
	objects Objects
	parts   func(job string) []api.EventArchive
	dir     string
	now     func() time.Time
	dec     *zstd.Decoder
	frames  *cache[[][]byte]
	indexes *cache[index]
}

var _ events.Log = (*Log)(nil)

// New returns a Log. Closing it closes the one below.
func New(c Config) (*Log, error) {
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(16<<20))
	if err != nil {
		return nil, fmt.Errorf("events/archive: %w", err)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return &Log{inner: c.Log, objects: c.Objects, parts: c.Parts, dir: c.Dir, now: c.Now, dec: dec,
		frames: newCache[[][]byte](cachedFrames), indexes: newCache[index](cachedIndexes)}, nil
}

// Append implements events.Log.
func (l *Log) Append(ctx context.Context, job, source string, firstSeq uint64, list []api.Event) (uint64, error) {
	next, err := l.inner.Append(ctx, job, source, firstSeq, list)
	if err == nil && source != events.SourceState {
		err = failpoint.At(failpoint.LinesUnanswered)
	}
	return next, err
}

// Next implements events.Log.
func (l *Log) Next(ctx context.Context, job, source string) (uint64, error) {
	return l.inner.Next(ctx, job, source)
}

// LastOf implements events.Log; it knows what is not archived.
func (l *Log) LastOf(ctx context.Context, job, source string, n int) ([]api.Event, error) {
	return l.inner.LastOf(ctx, job, source, n)
}

// Life implements events.Log.
func (l *Log) Life(ctx context.Context, job string) (string, error) { return l.inner.Life(ctx, job) }

// Position implements events.Log; all that is archived is kept.
func (l *Log) Position(ctx context.Context, job string) (events.Position, error) {
	at, err := l.inner.Position(ctx, job)
	if parts := l.parts(job); err == nil && len(parts) > 0 {
		at.First = 1
	}
	return at, err
}

// Wait implements events.Log.
func (l *Log) Wait(ctx context.Context, job string, after uint64) error {
	if events.BaseOf(l.parts(job)).Last > after {
		return ctx.Err()
	}
	return l.inner.Wait(ctx, job, after)
}

// Close closes the log below.
func (l *Log) Close() error {
	l.dec.Close()
	return l.inner.Close()
}

// Read implements events.Log. It does not read over the end of the archive, nor
// over that of a frame.
func (l *Log) Read(ctx context.Context, job string, after uint64, max int) ([]api.Event, error) {
	parts := l.parts(job)
	if events.BaseOf(parts).Last <= after || max <= 0 {
		return l.inner.Read(ctx, job, after, max)
	}
	if err := events.CheckNames(job, events.SourceState); err != nil {
		return nil, err
	}
	lines, err := l.lines(ctx, job, parts, after)
	if err != nil {
		return nil, err
	}
	var out []api.Event
	size := 0
	for _, line := range lines {
		if len(out) == max || size >= events.MaxRead {
			break
		}
		var e api.Event
		if err := json.Unmarshal(line, &e); err != nil {
			return nil, fmt.Errorf("events/archive: job %s: after event %d: %w", job, after, err)
		}
		if e.Seq > after {
			out, size = append(out, e), size+len(line)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("events/archive: job %s: event %d is missing: %w", job, after+1, errDamaged)
	}
	return out, nil
}

// lines returns the lines of a frame from the first event above after on, as
// near as can be told without decoding them.
func (l *Log) lines(ctx context.Context, job string, parts []api.EventArchive, after uint64) ([][]byte, error) {
	p := parts[sort.Search(len(parts), func(i int) bool { return parts[i].Last > after })]
	x, err := l.index(ctx, p)
	if err != nil {
		return nil, fmt.Errorf("events/archive: job %s: %w", job, err)
	}
	// The last frame that begins at or before the event.
	i := sort.Search(len(x.Frames), func(i int) bool { return x.Frames[i].First > after+1 }) - 1
	for i = max(i, 0); i < len(x.Frames); i++ {
		f := x.Frames[i]
		lines, err := l.frames.get(p.Key+"#"+strconv.Itoa(i), func() ([][]byte, error) {
			packed, err := l.fetch(ctx, p, f.Offset, f.Size)
			if err != nil {
				return nil, err
			}
			return unpack(l.dec, packed)
		})
		if err != nil {
			return nil, fmt.Errorf("events/archive: job %s: %w", job, err)
		}
		// Without gaps line n has the number First+n, with gaps a higher one.
		if skip := after + 1 - min(f.First, after+1); skip < uint64(len(lines)) && seqOf(lines[skip]) == after+1 {
			return lines[skip:], nil
		}
		if n := sort.Search(len(lines), func(n int) bool { return seqOf(lines[n]) > after }); n < len(lines) {
			return lines[n:], nil
		}
	}
	return nil, nil
}

// seqOf reads the number of an event's JSON, which begins with it.
func seqOf(line []byte) uint64 {
	var e struct {
		Seq uint64 `json:"seq"`
	}
	_ = json.Unmarshal(line, &e)
	return e.Seq
}

func (l *Log) index(ctx context.Context, p api.EventArchive) (index, error) {
	return l.indexes.get(p.Key, func() (index, error) {
		tail := min(p.Size, 64<<10)
		end, err := l.fetch(ctx, p, p.Size-tail, tail)
		if err != nil {
			return index{}, err
		}
		n, err := trailer(end)
		if err != nil {
			return index{}, err
		}
		if whole := n + trailerSize; whole > p.Size {
			return index{}, fmt.Errorf("%w: its index is longer than itself", errDamaged)
		} else if whole > tail {
			if end, err = l.fetch(ctx, p, p.Size-whole, whole); err != nil {
				return index{}, err
			}
		}
		return parseIndex(end[int64(len(end))-trailerSize-n:len(end)-trailerSize], p.Size)
	})
}

func (l *Log) fetch(ctx context.Context, p api.EventArchive, offset, length int64) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), fetchTime)
	defer cancel()
	r, err := l.objects.GetRange(ctx, p.Bucket, p.Key, offset, length)
	if err != nil {
		return nil, err
	}
	data := make([]byte, length)
	_, err = io.ReadFull(r, data)
	if err = errors.Join(err, r.Close()); err != nil {
		return nil, fmt.Errorf("read %s: %w", p.Key, err)
	}
	return data, nil
}
