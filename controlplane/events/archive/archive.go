package archive

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
)

// Objects is the object store. artifacts.Store is one.
type Objects interface {
	// PutEvents stores a file as a job's part: under a key that no other content
	// gets, and a copy under the part's well-known name (part counts from 1).
	PutEvents(ctx context.Context, job string, part int, last uint64, sum, file string) (api.Artifact, error)
	// GetRange reads length bytes of an object from an offset on.
	GetRange(ctx context.Context, bucket, key string, offset, length int64) (io.ReadCloser, error)
}

// Want is what a stream must hold before it is archived.
type Want struct {
	// Transitions is the number of the job's last change of state.
	Transitions uint64
	// Lines are the numbers of attempts' last lines, by fence.
	Lines map[uint64]uint64
	// Anyway archives what is there although something is missing.
	Anyway bool
}

// missing says what a stream at a position lacks; empty if nothing.
func (w Want) missing(at events.Position) string {
	if n := at.Sources[events.SourceState]; n < w.Transitions {
		return fmt.Sprintf("state changes %d to %d", n+1, w.Transitions)
	}
	for fence, lines := range w.Lines {
		if n := at.Sources[events.Source(fence)]; n < lines {
			return fmt.Sprintf("lines %d to %d of attempt %d", n+1, lines, fence)
		}
	}
	return ""
}

// errMoved: the stream was lost or set back while it was read.
var errMoved = errors.New("the stream changed while it was archived")

// Archive writes what a job's log holds beyond the parts that are archived to
// the object store and returns it as the next part, which the caller records;
// nil if there is nothing more, or if something is missing. What is missing it
// says, also where it archives anyway. It may be called again after any failure. It holds a page of events and a frame
// in memory, and the part in a temporary file.
func (l *Log) Archive(ctx context.Context, job string, parts []api.EventArchive, want Want) (part *api.EventArchive, missing string, err error) {
	at, err := l.inner.Position(ctx, job)
	if err != nil {
		return nil, "", err
	}
	if missing = want.missing(at); missing != "" && !want.Anyway {
		return nil, missing, nil
	}
	base := events.BaseOf(parts)
	if at.Last <= base.Last {
		return nil, missing, nil
	}
	file, err := os.CreateTemp(l.dir, "events-*.jsonl.zst")
	if err != nil {
		return nil, "", fmt.Errorf("events/archive: %w", err)
	}
	defer os.Remove(file.Name())
	defer file.Close()
	out := &api.EventArchive{First: base.Last + 1, Last: at.Last, Life: at.Life, Sources: at.Sources}
	if out.SHA256, out.Size, err = l.write(ctx, job, file, base.Last, at.Last); err != nil {
		return nil, "", fmt.Errorf("events/archive: job %s: %w", job, err)
	}
	if life, err := l.inner.Life(ctx, job); err != nil || life != at.Life {
		return nil, "", errors.Join(err, fmt.Errorf("events/archive: job %s: %w", job, errMoved))
	}
	object, err := l.objects.PutEvents(ctx, job, len(parts)+1, out.Last, out.SHA256, file.Name())
	if err != nil {
		return nil, "", err
	}
	out.Bucket, out.Key, out.At = object.Bucket, object.Key, l.now().UTC().Truncate(time.Millisecond)
	return out, missing, nil
}

// write writes the events after..upto of the inner log.
func (l *Log) write(ctx context.Context, job string, file io.Writer, after, upto uint64) (sum string, size int64, err error) {
	out := bufio.NewWriterSize(file, 256<<10)
	w, err := newWriter(out)
	if err != nil {
		return "", 0, err
	}
	for after < upto {
		list, err := l.inner.Read(ctx, job, after, page)
		if err != nil {
			return "", 0, err
		}
		if len(list) == 0 {
			return "", 0, errMoved
		}
		for _, e := range list {
			if e.Seq > upto {
				return "", 0, errMoved // upto stood within a gap that retention has made
			}
			line, err := json.Marshal(e)
			if err != nil {
				return "", 0, fmt.Errorf("event %d: %w", e.Seq, err)
			}
			if err := w.add(e.Seq, line); err != nil {
				return "", 0, err
			}
			if after = e.Seq; after == upto {
				break
			}
		}
	}
	if err := errors.Join(w.close(), out.Flush()); err != nil {
		return "", 0, err
	}
	return hex.EncodeToString(w.sum.Sum(nil)), w.size, nil
}

// page is how many events are read at once.
const page = 1000
