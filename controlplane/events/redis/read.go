package redis

import (
	"context"
	"math"
	"slices"
	"strconv"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
)

// Redis bounds a range by a number of entries, not by bytes: the first page is
// small, and the next ones grow while events are small.
const (
	firstPage = 128
	lastPage  = 1024
)

// nextPage returns how many entries to ask for after a page of some bytes.
func nextPage(page, bytes int) int {
	if bytes > events.MaxRead/4 {
		return firstPage
	}
	return min(4*page, lastPage)
}

// Read implements events.Log: from the memory of a follower where one has the
// events, else by XRANGE.
func (l *Log) Read(ctx context.Context, job string, after uint64, max int) ([]api.Event, error) {
	if err := events.CheckNames(job, events.SourceState); err != nil {
		return nil, err
	}
	if max <= 0 || after == math.MaxUint64 {
		return nil, nil
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if l.life.Err() != nil {
		return nil, events.ErrClosed
	}
	if f := l.following(job); f != nil {
		if out, ok := f.read(after, max); ok {
			return out, nil
		}
	}
	stream, _ := l.keys(job)
	var out []api.Event
	bytes, page := 0, firstPage
	for len(out) < max && bytes < events.MaxRead {
		page = min(page, max-len(out))
		messages, err := l.client.XRangeN(ctx, stream, strconv.FormatUint(after+1, 10), "+", int64(page)).Result()
		if err != nil {
			return nil, l.done(ctx, "read job "+job, err)
		}
		size := 0
		for _, m := range messages {
			e, err := decode(job, m)
			if err != nil {
				return nil, err
			}
			if e.event.Seq != after+1 && len(out) < max {
				out = append(out, events.Gone(job, after+1, e.event.Seq-1, e.event))
			}
			if len(out) == max || bytes+size >= events.MaxRead {
				return out, nil
			}
			out = append(out, e.event)
			after = e.event.Seq
			size += e.bytes
		}
		if len(messages) < page {
			break
		}
		bytes += size
		page = nextPage(page, size)
	}
	return out, nil
}

// Life implements events.Log: of a followed job from memory.
func (l *Log) Life(ctx context.Context, job string) (string, error) {
	if err := events.CheckNames(job, events.SourceState); err != nil {
		return "", err
	}
	if f := l.following(job); f != nil {
		if gen, ok := f.life(); ok {
			return gen, nil
		}
	}
	gen, _, err := l.state(ctx, l.client, job)
	if err != nil {
		return "", l.done(ctx, "look at job "+job, err)
	}
	return gen, nil
}

// Position implements events.Log.
func (l *Log) Position(ctx context.Context, job string) (events.Position, error) {
	if err := events.CheckNames(job, events.SourceState); err != nil {
		return events.Position{}, err
	}
	c, err := l.counters(ctx, l.client, job)
	if err != nil {
		return events.Position{}, l.done(ctx, "look at job "+job, err)
	}
	at := events.Position{Life: c.gen, First: c.last + 1, Last: c.last, Sources: c.sources}
	if c.based {
		return at, nil
	}
	stream, _ := l.keys(job)
	oldest, err := l.client.XRangeN(ctx, stream, "-", "+", 1).Result()
	if err != nil {
		return at, l.done(ctx, "look at job "+job, err)
	}
	if len(oldest) > 0 {
		e, err := decode(job, oldest[0])
		if err != nil {
			return at, err
		}
		at.First = e.event.Seq
	}
	return at, nil
}

// LastOf implements events.Log: it reads the stream from its end back until it
// has n of the source.
func (l *Log) LastOf(ctx context.Context, job, source string, n int) ([]api.Event, error) {
	next, err := l.Next(ctx, job, source) // checks the names
	if err != nil {
		return nil, err
	}
	n = int(min(uint64(max(n, 0)), next-1)) // there are no more, so look no further
	stream, _ := l.keys(job)
	var out []api.Event
	upto, page := "+", firstPage
	for len(out) < n {
		messages, err := l.client.XRevRangeN(ctx, stream, upto, "-", int64(page)).Result()
		if err != nil {
			return nil, l.done(ctx, "read job "+job, err)
		}
		size := 0
		for _, m := range messages {
			if s, _ := m.Values["s"].(string); s == source && len(out) < n {
				e, err := decode(job, m)
				if err != nil {
					return nil, err
				}
				out = append(out, e.event)
			}
			data, _ := m.Values["e"].(string)
			size += len(data)
			upto = "(" + m.ID
		}
		if len(messages) < page {
			break
		}
		page = nextPage(page, size)
	}
	slices.Reverse(out)
	return out, nil
}
