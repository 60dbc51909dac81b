package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

const (
	// maxEventLine bounds one line of the stream; an event is at most 256 KiB.
	maxEventLine = 1 << 20
	// silence after which a stream is taken for dead; servers send a comment
	// every 15 s.
	silence = 50 * time.Second
)

// errStreamEnded: the server said that nothing more will come.
var errStreamEnded = errors.New("stream ended")

// Events calls fn for each event of a job after number after, in order and each
// once. With follow it waits for more and returns nil when the job is finished
// and all its events were delivered; without, it returns after the newest. A
// broken connection is resumed by itself, at any of the servers, for as long as
// ctx lives while following. Should the stream have been lost meanwhile and come
// back with other numbers, the events that fn was given before do not come again.
// An error of fn ends it and is returned.
func (c *Client) Events(ctx context.Context, jobID string, after uint64, follow bool, fn func(api.Event) error) error {
	path := "/v1/jobs/" + esc(jobID) + "/events"
	at := cursor{id: strconv.FormatUint(after, 10), after: after, seen: map[string]uint64{}}
	failures := 0
	for {
		before := at.moved
		failure := c.tryStream(ctx, path, &at, follow, fn)
		if failure == nil {
			return nil
		}
		if at.moved > before {
			failures = 0
		}
		failures++
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !failure.retry || (!follow && failures > c.retries) {
			return wrap(http.MethodGet, path, failure.err)
		}
		if err := sleep(ctx, failures, failure.retryAfter); err != nil {
			return err
		}
	}
}

// cursor is where a reader is in a stream.
type cursor struct {
	id    string // last that the server gave
	after uint64 // number of the last event
	moved int    // how many events there were
	// seen are the numbers of the last event of each source: these stay what
	// they are when the stream is numbered anew.
	seen map[string]uint64
}

// source is whose number SourceSeq is.
func source(e api.Event) string {
	if e.Level == api.LevelState {
		return e.Level
	}
	return strconv.FormatUint(e.Fence, 10)
}

// next says whether an event is one that the reader has not had.
func (c *cursor) next(e api.Event) bool {
	if e.Seq <= c.after {
		return false // a replay that overlaps
	}
	return e.SourceSeq == 0 || e.SourceSeq > c.seen[source(e)]
}

// took notes an event that the reader has now, or had.
func (c *cursor) took(e api.Event) {
	c.after, c.moved = e.Seq, c.moved+1
	if from := source(e); e.SourceSeq > c.seen[from] {
		c.seen[from] = e.SourceSeq
	}
}

// tryStream reads one connection's worth of events; nil means that the server
// ended the stream properly.
func (c *Client) tryStream(ctx context.Context, path string, at *cursor, follow bool, fn func(api.Event) error) *tryError {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	query := url.Values{"after": {strconv.FormatUint(at.after, 10)}}
	if !follow {
		query.Set("follow", "false")
	}
	req, err := c.request(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return &tryError{err: err}
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Last-Event-ID", at.id)
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	resp, failure := c.send(req)
	if failure != nil {
		return failure
	}
	defer resp.Body.Close()
	err = readSSE(resp.Body, func() { watchdog.Reset(silence) }, func(id, kind string, data []byte) error {
		if id != "" {
			at.id = id
		}
		switch kind {
		case "", "message", "event":
		case "end":
			return errStreamEnded
		case "reset":
			at.id, at.after = "0", 0
			return nil
		default: // a kind of a later version
			return nil
		}
		if data == nil {
			return nil // only an id: what lies before it is filtered out
		}
		var e api.Event
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("decode event: %w", err)
		}
		fresh := at.next(e)
		if fresh {
			if err := fn(e); err != nil {
				return callerError{err}
			}
		}
		if e.Seq > at.after {
			at.took(e)
		}
		return nil
	})
	var own callerError
	switch {
	case errors.Is(err, errStreamEnded):
		return nil
	case errors.As(err, &own):
		return &tryError{err: own.err}
	case errors.Is(err, bufio.ErrTooLong):
		return &tryError{err: fmt.Errorf("a line of the stream is over %d bytes", maxEventLine)}
	case err == nil:
		err = io.ErrUnexpectedEOF
	}
	return &tryError{err: err, retry: true}
}

// callerError carries an error of the caller's own function out of the stream.
type callerError struct{ err error }

func (e callerError) Error() string { return e.err.Error() }

// readSSE parses a stream of server-sent events (WHATWG HTML, section 9.2) and
// calls alive for each line, comments included, and deliver for each event; id
// is the event's own, empty if it has none, and data is nil without data.
func readSSE(r io.Reader, alive func(), deliver func(id, kind string, data []byte) error) error {
	scan := bufio.NewScanner(r)
	scan.Buffer(make([]byte, 0, 64<<10), maxEventLine)
	var id, kind string
	var buf []byte
	some, filled := false, false
	for scan.Scan() {
		alive()
		line := scan.Bytes()
		if len(line) == 0 {
			var data []byte
			if filled {
				data = buf
			}
			if some {
				if err := deliver(id, kind, data); err != nil {
					return err
				}
			}
			id, kind, buf, some, filled = "", "", buf[:0], false, false
			continue
		}
		if line[0] == ':' {
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "id":
			id, some = string(value), true
		case "event":
			kind, some = string(value), true
		case "data":
			if filled {
				buf = append(buf, '\n')
			}
			if buf == nil {
				buf = make([]byte, 0, 1024)
			}
			buf, some, filled = append(buf, value...), true, true
		}
	}
	return scan.Err()
}
