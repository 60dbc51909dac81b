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
// broken connection is resumed by itself with Last-Event-ID, for as long as ctx
// lives while following. An error of fn ends it and is returned.
func (c *Client) Events(ctx context.Context, jobID string, after uint64, follow bool, fn func(api.Event) error) error {
	path := "/v1/jobs/" + esc(jobID) + "/events"
	failures := 0
	for {
		before := after
		failure := c.tryStream(ctx, path, &after, follow, fn)
		if failure == nil {
			return nil
		}
		if after > before {
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

// tryStream reads one connection's worth of events; nil means that the server
// ended the stream properly.
func (c *Client) tryStream(ctx context.Context, path string, after *uint64, follow bool, fn func(api.Event) error) *tryError {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	query := url.Values{"after": {strconv.FormatUint(*after, 10)}}
	if !follow {
		query.Set("follow", "false")
	}
	req, err := c.request(ctx, http.MethodGet, path, query, nil)
	if err != nil {
		return &tryError{err: err}
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Last-Event-ID", strconv.FormatUint(*after, 10))
	watchdog := time.AfterFunc(silence, cancel)
	defer watchdog.Stop()
	resp, failure := c.send(req)
	if failure != nil {
		return failure
	}
	defer resp.Body.Close()
	err = readSSE(resp.Body, func() { watchdog.Reset(silence) }, func(kind string, data []byte) error {
		switch kind {
		case "", "message", "event":
		case "end":
			return errStreamEnded
		default: // dropped, or a kind of a later version: resume or go on
			return nil
		}
		var e api.Event
		if err := json.Unmarshal(data, &e); err != nil {
			return fmt.Errorf("decode event: %w", err)
		}
		if e.Seq <= *after {
			return nil // a replay that overlaps
		}
		if err := fn(e); err != nil {
			return callerError{err}
		}
		*after = e.Seq
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
// calls alive for each line, comments included, and deliver for each event.
func readSSE(r io.Reader, alive func(), deliver func(kind string, data []byte) error) error {
	scan := bufio.NewScanner(r)
	scan.Buffer(make([]byte, 0, 64<<10), maxEventLine)
	var kind string
	var data []byte
	some := false
	for scan.Scan() {
		alive()
		line := scan.Bytes()
		if len(line) == 0 {
			if some {
				if err := deliver(kind, data); err != nil {
					return err
				}
			}
			kind, data, some = "", data[:0], false
			continue
		}
		if line[0] == ':' {
			continue
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "event":
			kind = string(value)
			some = true
		case "data":
			if len(data) > 0 {
				data = append(data, '\n')
			}
			data = append(data, value...)
			some = true
		}
	}
	return scan.Err()
}
