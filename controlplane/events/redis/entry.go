package redis

import (
	"context"
	_ "embed" // of the script
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"strconv"
	"strings"

	goredis "github.com/redis/go-redis/v9"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
)

//go:embed append.lua
var appendSource string

// appender is the script; go-redis sends its text where Redis does not know it,
// as after a restart.
var appender = goredis.NewScript(appendSource)

// Bounds of one run of the script.
const (
	partEvents = 500
	partBytes  = 1 << 20
)

// encode takes the first events of a batch as one run of the script takes them:
// numbers and JSON in turns.
func encode(list []events.Numbered) (part []any, rest []events.Numbered, err error) {
	size := 0
	for i, n := range list {
		if i == partEvents || size >= partBytes {
			return part, list[i:], nil
		}
		e := n.Event
		e.Seq, e.RunID = 0, "" // the id and the key say them
		data, err := events.Encode(e)
		if err != nil {
			return nil, nil, err
		}
		part = append(part, n.Number, data)
		size += len(data)
	}
	return part, nil, nil
}

// stored is the script's answer.
type stored struct {
	hole       bool
	next, last uint64 // of the source, of the stream
	gen        string
}

func (l *Log) appendPart(ctx context.Context, job, source string, firstSeq uint64, part []any) (s stored, err error) {
	now := l.config.Now()
	oldest := int64(0)
	if l.config.KeepFor > 0 {
		oldest = now.Add(-l.config.KeepFor).UnixMilli()
	}
	archived := ""
	if base := l.config.Base(job); base.Last > 0 {
		data, err := json.Marshal(base)
		if err != nil {
			return s, err
		}
		archived = string(data)
	}
	args := make([]any, 0, 7+len(part))
	args = append(args, source, firstSeq, now.UnixMilli(), strconv.FormatUint(rand.Uint64(), 36), l.config.KeepBytes, oldest, archived)
	args = append(args, part...)
	stream, counters := l.keys(job)
	answer, err := appender.Run(ctx, l.client, []string{stream, counters}, args...).Slice()
	if err != nil {
		return s, err
	}
	if len(answer) != 4 {
		return s, fmt.Errorf("the script answered %d values", len(answer))
	}
	ok, _ := answer[0].(int64)
	next, _ := answer[1].(int64)
	last, _ := answer[2].(int64)
	s.gen, _ = answer[3].(string)
	s.hole, s.next, s.last = ok == 0, uint64(next), uint64(last)
	return s, nil
}

// entry is a stored event with what the log knows of it.
type entry struct {
	event  api.Event
	source string
	bytes  int
}

func decode(job string, m goredis.XMessage) (e entry, err error) {
	number, _, _ := strings.Cut(m.ID, "-")
	seq, err := strconv.ParseUint(number, 10, 64)
	if err != nil {
		return e, fmt.Errorf("events/redis: job %s: the entry %s was not written by this log", job, m.ID)
	}
	data, ok := m.Values["e"].(string)
	if !ok {
		return e, fmt.Errorf("events/redis: job %s: the entry %s was not written by this log", job, m.ID)
	}
	if err := json.Unmarshal([]byte(data), &e.event); err != nil {
		return e, fmt.Errorf("events/redis: job %s: event %d: %w", job, seq, err)
	}
	e.event.Seq, e.event.RunID = seq, job
	e.source, _ = m.Values["s"].(string)
	e.bytes = len(data)
	return e, nil
}

// state is what a stream's counters say, or the base where they do not agree
// with it; both are zero for an unknown job.
func (l *Log) state(ctx context.Context, c goredis.UniversalClient, job string) (gen string, last uint64, err error) {
	counts, err := l.counters(ctx, c, job, "gen", "last", "seed")
	if err != nil {
		return "", 0, err
	}
	return counts.gen, counts.last, nil
}

// counts are a stream's counters.
type counts struct {
	gen     string
	last    uint64
	sources map[string]uint64
	based   bool // these are the base's
}

// counters reads some of a stream's counters; none named means all of them.
func (l *Log) counters(ctx context.Context, c goredis.UniversalClient, job string, names ...string) (out counts, err error) {
	_, key := l.keys(job)
	have := map[string]string{}
	if len(names) == 0 {
		have, err = c.HGetAll(ctx, key).Result()
	} else {
		var got []any
		got, err = c.HMGet(ctx, key, names...).Result()
		for i, v := range got {
			if text, ok := v.(string); ok {
				have[names[i]] = text
			}
		}
	}
	if err != nil {
		return out, err
	}
	number := func(name string) uint64 {
		text, ok := have[name]
		if !ok || err != nil {
			return 0
		}
		n, failed := strconv.ParseUint(text, 10, 64)
		if failed != nil {
			err = fmt.Errorf("the counter %s of job %s is %q", name, job, text)
		}
		return n
	}
	out = counts{gen: have["gen"], last: number("last"), sources: map[string]uint64{}}
	seed := number("seed")
	for name := range have {
		if source, ok := strings.CutPrefix(name, "s:"); ok {
			out.sources[source] = number(name)
		}
	}
	base := l.config.Base(job)
	if base.Last > 0 && (out.last < base.Last || (out.gen != base.Life && seed < base.Last)) {
		out = counts{gen: base.Life, last: base.Last, sources: maps.Clone(base.Sources), based: true}
	}
	return out, err
}
