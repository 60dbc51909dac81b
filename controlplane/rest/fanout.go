package rest

import (
	lru "container/list"
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"sync"

	"github.com/tunemesh/tunemesh/api"
)

// chunk is some events of a job as they go over the wire. Its bytes are shared
// by all readers that are at the same place.
type chunk struct {
	data []byte
	last uint64 // number of its last event; 0 for an empty chunk
}

// chunkKey says which events a chunk begins with and how they are written.
type chunkKey struct {
	job, life, filter string
	after             uint64
	ndjson            bool
}

// fanoutBytes bounds the chunks that are kept.
const fanoutBytes = 32 << 20

// fanout keeps the chunks that were used last, so that an event that ten
// thousand readers wait for is read and encoded once.
type fanout struct {
	mu     sync.Mutex
	byKey  map[chunkKey]*lru.Element // of *shared
	recent *lru.List                 // front: used last
	bytes  int
}

type shared struct {
	key   chunkKey
	made  chan struct{} // closed when chunk and err are there
	chunk chunk
	err   error
	size  int // counted in fanout.bytes
}

func newFanout() *fanout { return &fanout{byKey: map[chunkKey]*lru.Element{}, recent: lru.New()} }

// get returns a chunk, made by produce if nobody has or does. One that is empty or
// failed is not kept: the next reader tries again. Who waits for another's goes
// with its context: the event store may be slow, and a reader that has left or a
// server that closes must not be.
func (f *fanout) get(ctx context.Context, key chunkKey, produce func() (chunk, error)) (chunk, error) {
	f.mu.Lock()
	e := f.byKey[key]
	first := e == nil
	if first {
		e = f.recent.PushFront(&shared{key: key, made: make(chan struct{})})
		f.byKey[key] = e
	} else {
		f.recent.MoveToFront(e)
	}
	v := e.Value.(*shared)
	f.mu.Unlock()
	if !first {
		select {
		case <-v.made:
			return v.chunk, v.err
		case <-ctx.Done():
			return chunk{}, ctx.Err()
		}
	}
	func() {
		defer close(v.made) // also where it panics
		v.chunk, v.err = produce()
	}()
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byKey[key] == e {
		if v.err != nil || v.chunk.last == 0 {
			f.dropLocked(e)
		} else {
			v.size = len(v.chunk.data) + 256
			f.bytes += v.size
		}
	}
	for last := f.recent.Back(); f.bytes > fanoutBytes && last != nil; last = f.recent.Back() {
		f.dropLocked(last)
	}
	return v.chunk, v.err
}

func (f *fanout) dropLocked(e *lru.Element) {
	v := e.Value.(*shared)
	f.bytes -= v.size
	delete(f.byKey, v.key)
	f.recent.Remove(e)
}

// nextChunk returns the events after a number of a stream's life, or none at
// its end. moved is the stream's life if that is another now.
func (s *Server) nextChunk(ctx context.Context, q streamRequest, after uint64, life string) (c chunk, moved string, err error) {
	now, err := s.Events.Life(ctx, q.job)
	if err != nil {
		return c, "", err
	}
	if now != life {
		return c, now, nil
	}
	// Whoever comes first reads for all who are at this place: that it goes away
	// must not hurt them.
	shared := context.WithoutCancel(ctx)
	c, err = s.fanout.get(ctx, chunkKey{q.job, life, q.filter, after, q.ndjson}, func() (chunk, error) {
		list, err := s.Events.Read(shared, q.job, after, batchSize)
		if err != nil || len(list) == 0 {
			return chunk{}, err
		}
		now, err := s.Events.Life(shared, q.job)
		if err != nil || now != life {
			return chunk{}, err // the next look finds the other life
		}
		return encodeChunk(list, q, life)
	})
	return c, "", err
}

func encodeChunk(list []api.Event, q streamRequest, life string) (chunk, error) {
	out := chunk{last: list[len(list)-1].Seq}
	tail := ""
	if life != "" {
		tail = "." + life
	}
	for _, e := range list {
		if !q.wants(e) {
			continue
		}
		data, err := json.Marshal(e)
		if err != nil {
			return out, fmt.Errorf("rest: encode event %d: %w", e.Seq, err)
		}
		if q.ndjson {
			out.data = append(append(out.data, data...), '\n')
			continue
		}
		out.data = append(out.data, "id: "...)
		out.data = strconv.AppendUint(out.data, e.Seq, 10)
		out.data = append(append(out.data, tail...), "\ndata: "...)
		out.data = append(append(out.data, data...), "\n\n"...)
	}
	if len(out.data) == 0 && !q.ndjson {
		// Nothing wanted among them; a reader that is cut off need not see them
		// again. An id without data sets it and makes no event.
		out.data = fmt.Appendf(nil, "id: %d%s\n\n", out.last, tail)
	}
	return out, nil
}
