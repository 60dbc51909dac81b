package rest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
)

const (
	// batchSize is how many events are read at once.
	batchSize = 256
	// settleTime is how long a finished job's stream waits for late lines.
	settleTime = 300 * time.Millisecond
)

func eventsOperation() huma.Operation {
	return op("GET", "/v1/jobs/{id}/events", tagJobs, "stream-events", "Stream a job's events", func(o *huma.Operation) {
		text := func(name, in, what string) *huma.Param {
			return &huma.Param{Name: name, In: in, Required: in == "path", Description: what, Schema: &huma.Schema{Type: "string"}}
		}
		o.Description = "Server-sent events, or JSON lines for Accept: application/x-ndjson. First everything after the number given, then what comes. Each event's id is its number: a reader that was cut off sends it as Last-Event-ID and misses nothing. The stream ends with the event \"end\" once the job is finished."
		o.Parameters = []*huma.Param{
			text("id", "path", "of the job"),
			text("after", "query", "number of the last event that the caller has"),
			text("Last-Event-ID", "header", "the same, as browsers send it; goes before after"),
			text("follow", "query", "false: end after the newest event"),
			text("level", "query", "only events of these levels, separated by commas"),
			text("stage", "query", "only events of these stages, separated by commas"),
		}
		o.Responses = map[string]*huma.Response{"200": {Description: "The stream", Content: map[string]*huma.MediaType{
			"text/event-stream": {}, "application/x-ndjson": {Schema: &huma.Schema{Ref: "#/components/schemas/Event"}},
		}}}
	})
}

// streamRequest is what a reader asked for.
type streamRequest struct {
	job    string
	after  uint64
	follow bool
	ndjson bool
	levels map[string]bool
	stages map[string]bool
}

func parseStream(r *http.Request) (streamRequest, error) {
	q := r.URL.Query()
	out := streamRequest{job: r.PathValue("id"), follow: true, levels: set(q.Get("level"), strings.ToUpper), stages: set(q.Get("stage"), strings.TrimSpace)}
	after, field := q.Get("after"), "after"
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		after, field = id, "Last-Event-ID"
	}
	var err error
	if after != "" {
		if out.after, err = strconv.ParseUint(after, 10, 64); err != nil {
			return out, fault(field, "is %q, want the number of an event", after)
		}
	}
	if f := q.Get("follow"); f != "" {
		if out.follow, err = strconv.ParseBool(f); err != nil {
			return out, fault("follow", "is %q, want true or false", f)
		}
	}
	for accept := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		if kind, _, err := mime.ParseMediaType(accept); err == nil && kind == "application/x-ndjson" {
			out.ndjson = true
		}
	}
	return out, nil
}

func set(list string, clean func(string) string) map[string]bool {
	if list == "" {
		return nil
	}
	out := map[string]bool{}
	for item := range strings.SplitSeq(list, ",") {
		out[clean(strings.TrimSpace(item))] = true
	}
	return out
}

func (q streamRequest) wants(e api.Event) bool {
	return (q.levels == nil || q.levels[e.Level]) && (q.stages == nil || q.stages[e.Stage])
}

func (s *Server) streamEvents(w http.ResponseWriter, r *http.Request) error {
	q, err := parseStream(r)
	if err != nil {
		return err
	}
	if err := s.fresh(r.Context(), readParams{}); err != nil {
		return err
	}
	if _, err := s.Store.Job(q.job); err != nil {
		return err
	}
	select {
	case s.streams <- struct{}{}:
		defer func() { <-s.streams }()
	default:
		return problem(http.StatusServiceUnavailable, api.ProblemOverloaded, "%d streams are open, no more are allowed", cap(s.streams))
	}
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()
	ctx, cancel := s.bounded(r.Context())
	defer cancel()
	out := &streamWriter{rc: http.NewResponseController(w), w: w, ndjson: q.ndjson, limit: s.StreamWriteTime}
	if err := out.begin(); err != nil {
		return nil // the reader is gone; there is nobody to tell
	}
	if err := s.pump(ctx, q, out); err != nil && ctx.Err() == nil {
		s.Log.Debug("an event stream ended early", "job", q.job, "err", err)
	}
	out.finish()
	return nil
}

// pump writes a job's events until it is finished, or the reader is gone.
func (s *Server) pump(ctx context.Context, q streamRequest, out *streamWriter) error {
	tail := events.Follow(s.Events, q.job, q.after)
	var settled time.Time // since when nothing more is expected
	for {
		list, err := s.Events.Read(ctx, q.job, tail.Resume(), batchSize)
		if err != nil {
			return err
		}
		if len(list) == 0 {
			drained, err := s.drained(ctx, q.job)
			switch {
			case err != nil:
				return err
			case !q.follow:
				return out.end("newest")
			case !drained:
				settled = time.Time{}
			case settled.IsZero():
				settled = time.Now()
			case time.Since(settled) >= settleTime:
				return out.end("finished")
			}
		}
		wait := s.StreamHeartbeat
		if !settled.IsZero() {
			wait = settleTime
		}
		if list, err = next(ctx, tail, wait); err != nil {
			return err
		}
		if len(list) == 0 && settled.IsZero() {
			if !s.Raft.IsLeader() && ctx.Value(staleKey{}) == nil {
				return nil // without an end: the reader goes on where the leader is
			}
			if err := out.comment(); err != nil {
				return err
			}
		}
		if err := out.write(list, q.wants); err != nil {
			return err
		}
	}
}

// next returns the next events, or none after a wait.
func next(ctx context.Context, tail *events.Tail, wait time.Duration) ([]api.Event, error) {
	short, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	list, err := tail.Next(short, batchSize)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return nil, nil
	}
	return list, err
}

// drained says whether a job is finished and all its changes of state stand in
// the event log.
func (s *Server) drained(ctx context.Context, job string) (bool, error) {
	view := s.Store.At()
	j, err := view.Job(job)
	if err != nil {
		return false, err
	}
	if !j.State.Terminal() {
		return false, nil
	}
	logged, err := s.Events.Next(ctx, job, events.SourceState)
	if err != nil {
		return false, err
	}
	return len(view.Transitions(job, logged-1)) == 0, nil
}

// streamWriter writes events in one of two forms, each write within its time.
type streamWriter struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	ndjson bool
	limit  time.Duration // of one write
	buf    bytes.Buffer
}

func (o *streamWriter) begin() error {
	h := o.w.Header()
	h.Set("Content-Type", "text/event-stream")
	if o.ndjson {
		h.Set("Content-Type", "application/x-ndjson")
	}
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	o.w.WriteHeader(http.StatusOK)
	return o.comment()
}

func (o *streamWriter) write(list []api.Event, wants func(api.Event) bool) error {
	o.buf.Reset()
	var last uint64
	for _, e := range list {
		last = e.Seq
		if !wants(e) {
			continue
		}
		data, err := json.Marshal(e)
		if err != nil {
			return fmt.Errorf("rest: encode event %d: %w", e.Seq, err)
		}
		if o.ndjson {
			o.buf.Write(data)
			o.buf.WriteByte('\n')
		} else {
			fmt.Fprintf(&o.buf, "id: %d\ndata: %s\n\n", e.Seq, data)
		}
	}
	if o.buf.Len() == 0 && last > 0 && !o.ndjson {
		// Nothing wanted among them; a reader that is cut off need not see them
		// again. An id without data sets it and makes no event.
		fmt.Fprintf(&o.buf, "id: %d\n\n", last)
	}
	return o.flush()
}

// comment shows that the connection lives.
func (o *streamWriter) comment() error {
	o.buf.Reset()
	if o.ndjson {
		o.buf.WriteByte('\n')
	} else {
		o.buf.WriteString(":\n\n")
	}
	return o.flush()
}

// end says that nothing more will come, and why.
func (o *streamWriter) end(why string) error {
	if o.ndjson {
		return nil // the end of the body says it
	}
	o.buf.Reset()
	fmt.Fprintf(&o.buf, "event: end\ndata: {\"reason\":%q}\n\n", why)
	return o.flush()
}

func (o *streamWriter) flush() error {
	if o.buf.Len() == 0 {
		return nil
	}
	_ = o.rc.SetWriteDeadline(time.Now().Add(o.limit))
	if _, err := o.w.Write(o.buf.Bytes()); err != nil {
		return err
	}
	return o.rc.Flush()
}

func (o *streamWriter) finish() { _ = o.rc.SetWriteDeadline(time.Time{}) }
