package redis

import (
	"context"
	_ "embed" // of the script
	"encoding/json"
	"errors"
	"fmt"
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

// encode takes the first events of a batch as one run of the script takes them.
func encode(firstSeq uint64, list []api.Event) (part [][]byte, rest []api.Event, err error) {
	size := 0
	for i, e := range list {
		if i == partEvents || size >= partBytes {
			return part, list[i:], nil
		}
		e.SourceSeq = firstSeq + uint64(i)
		e.Seq, e.RunID = 0, "" // the id and the key say them
		data, err := events.Encode(e)
		if err != nil {
			return nil, nil, err
		}
		part = append(part, data)
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

func (l *Log) appendPart(ctx context.Context, job, source string, firstSeq uint64, part [][]byte) (s stored, err error) {
	now := l.config.Now()
	oldest := int64(0)
	if l.config.KeepFor > 0 {
		oldest = now.Add(-l.config.KeepFor).UnixMilli()
	}
	args := make([]any, 0, 6+len(part))
	args = append(args, source, firstSeq, now.UnixMilli(), strconv.FormatUint(rand.Uint64(), 36), l.config.KeepBytes, oldest)
	for _, data := range part {
		args = append(args, data)
	}
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

// gone stands for the events from..to, which are no longer there. Its number is
// the last of theirs.
func gone(job string, from, to uint64, before api.Event) api.Event {
	fields, _ := json.Marshal(map[string]uint64{"gone_from": from, "gone_to": to})
	return api.Event{
		Seq: to, RunID: job, Timestamp: before.Timestamp, Level: api.LevelWarn, Fields: fields,
		Message: fmt.Sprintf("events %d to %d are no longer in the event store: its retention let go of them", from, to),
	}
}

// state is what a stream's counters say; both are zero for an unknown job.
func (l *Log) state(ctx context.Context, c goredis.UniversalClient, job string) (gen string, last uint64, err error) {
	_, counters := l.keys(job)
	got, err := c.HMGet(ctx, counters, "gen", "last").Result()
	if err != nil {
		return "", 0, err
	}
	if len(got) != 2 {
		return "", 0, errors.New("HMGET answered too little")
	}
	gen, _ = got[0].(string)
	if text, ok := got[1].(string); ok {
		if last, err = strconv.ParseUint(text, 10, 64); err != nil {
			return "", 0, fmt.Errorf("the counter of job %s is %q", job, text)
		}
	}
	return gen, last, nil
}
