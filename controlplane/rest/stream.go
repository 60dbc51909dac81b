package rest

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
)

const (
	// batchSize is how many events are read at once.
	batchSize = 256
	// settleTime is how long a finished job's stream waits for late lines.
	settleTime = 300 * time.Millisecond
	// patience is how long it waits for lines that are known to be missing.
	patience = 30 * time.Second
	// leadCheck is how often is looked whether this server still leads.
	leadCheck = 250 * time.Millisecond
)

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
	if ctx.Value(staleKey{}) == nil {
		leave := s.reign.join(s.Raft.IsLeader, cancel)
		defer leave()
	}
	life, err := s.Events.Life(ctx, q.job)
	if err != nil {
		return s.awayOr(err)
	}
	after, reset, err := s.resolve(ctx, q, life)
	if err != nil {
		return s.awayOr(err)
	}
	if reset != "" && q.ndjson {
		p := problem(http.StatusGone, api.ProblemInvalid, "%s", reset)
		p.Hint = "read from the beginning (after=0) and pass over what you have, by fence and source_seq"
		return p
	}
	out := &streamWriter{rc: http.NewResponseController(w), w: w, ndjson: q.ndjson, limit: s.StreamWriteTime}
	if err := out.begin(q.gzip); err != nil {
		return nil // the reader is gone; there is nobody to tell
	}
	if reset != "" {
		err = out.reset(reset)
	}
	if err == nil {
		err = s.pump(ctx, q, after, life, out)
	}
	if err != nil && ctx.Err() == nil {
		s.Log.Debug("an event stream ended early", "job", q.job, "err", err)
	}
	out.finish()
	return nil
}

// awayOr answers for an event store that is away.
func (s *Server) awayOr(err error) error {
	if errors.Is(err, events.ErrAway) || errors.Is(err, events.ErrClosed) {
		return problem(http.StatusServiceUnavailable, api.ProblemOverloaded, "the event store does not answer: try again")
	}
	return err
}

// pump writes a job's events until it is finished, or the reader is gone.
func (s *Server) pump(ctx context.Context, q streamRequest, after uint64, life string, out *streamWriter) error {
	var settled time.Time // since when nothing more is expected
	var lacking time.Time // since when the job is over and lines are missing
	for {
		c, moved, err := s.nextChunk(ctx, q, after, life)
		switch {
		case err != nil:
			return err
		case moved != "":
			// What the reader has may stand elsewhere in the stream's new life.
			at := q
			at.after, at.life = after, life
			resumed, reset, err := s.resolve(ctx, at, moved)
			if err != nil {
				return err
			}
			if reset != "" {
				if q.ndjson {
					return nil // cut off: the next request is told
				}
				if err := out.reset(reset); err != nil {
					return err
				}
			}
			after, life = resumed, moved
			continue
		case c.last > 0:
			if err := out.write(c.data); err != nil {
				return err
			}
			after = c.last
			continue
		}
		over, missing, err := s.drained(ctx, q.job)
		switch {
		case err != nil:
			return err
		case !q.follow:
			return out.end("newest")
		case !over:
			settled, lacking = time.Time{}, time.Time{}
		case missing:
			if settled = (time.Time{}); lacking.IsZero() {
				lacking = time.Now()
			}
			if time.Since(lacking) >= patience {
				return out.end("incomplete")
			}
		case settled.IsZero():
			settled = time.Now()
		case time.Since(settled) >= settleTime:
			return out.end("finished")
		}
		wait := s.StreamHeartbeat
		if !settled.IsZero() {
			wait = settleTime
		} else if missing {
			wait = min(wait, time.Second)
		}
		more, err := s.await(ctx, q.job, after, wait)
		if err != nil {
			return err
		}
		if !more && settled.IsZero() {
			if err := out.comment(); err != nil {
				return err
			}
		}
	}
}

// await waits for an event after a number; more is false if none came in time.
func (s *Server) await(ctx context.Context, job string, after uint64, wait time.Duration) (more bool, err error) {
	short, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	err = s.Events.Wait(short, job, after)
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
		return false, nil
	}
	return err == nil, err
}

// drained says whether a job is finished, and whether its stream lacks changes
// of state or lines that its attempts have reported.
func (s *Server) drained(ctx context.Context, job string) (over, missing bool, err error) {
	view := s.Store.At()
	j, err := view.Job(job)
	if err != nil || !j.State.Terminal() {
		return false, false, err
	}
	want := map[string]uint64{events.SourceState: view.LastTransition(job)}
	for _, a := range view.Attempts(job) {
		want[events.Source(a.Fence)] = a.Lines
	}
	whole, err := events.Complete(ctx, s.Events, job, want)
	return true, !whole, err
}

// reign ends streams when this server ceases to lead: their readers go on where
// the leader is. One goroutine looks for all of them, while there are any.
type reign struct {
	mu      sync.Mutex
	next    int
	cancels map[int]context.CancelFunc
	looking bool
}

// join has cancel called when leads turns false; leave takes it back.
func (r *reign) join(leads func() bool, cancel context.CancelFunc) (leave func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cancels == nil {
		r.cancels = map[int]context.CancelFunc{}
	}
	id := r.next
	r.next++
	r.cancels[id] = cancel
	if !r.looking {
		r.looking = true
		r.look(leads)
	}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.cancels, id)
	}
}

// look looks now and then until there is nobody to tell.
func (r *reign) look(leads func() bool) {
	time.AfterFunc(leadCheck, func() {
		lost := !leads()
		r.mu.Lock()
		defer r.mu.Unlock()
		if lost {
			for _, cancel := range r.cancels {
				cancel()
			}
			clear(r.cancels)
		}
		if r.looking = len(r.cancels) > 0; r.looking {
			r.look(leads)
		}
	})
}

// streamWriter writes events in one of two forms, each write within its time.
type streamWriter struct {
	w      http.ResponseWriter
	rc     *http.ResponseController
	ndjson bool
	zip    *gzip.Writer // nil: not packed
	limit  time.Duration
}

func (o *streamWriter) begin(packed bool) error {
	h := o.w.Header()
	h.Set("Content-Type", "text/event-stream")
	if o.ndjson {
		h.Set("Content-Type", "application/x-ndjson")
	}
	h.Set("Cache-Control", "no-cache, no-transform")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	h.Add("Vary", "Accept-Encoding")
	if packed {
		h.Set("Content-Encoding", "gzip")
		var err error
		if o.zip, err = gzip.NewWriterLevel(o.w, gzip.BestSpeed); err != nil {
			return err
		}
	}
	o.w.WriteHeader(http.StatusOK)
	return o.comment()
}

// comment shows that the connection lives.
func (o *streamWriter) comment() error {
	if o.ndjson {
		return o.write([]byte("\n"))
	}
	return o.write([]byte(":\n\n"))
}

// reset says that what the reader has is of another life of the stream, which
// comes from its beginning now.
func (o *streamWriter) reset(why string) error {
	return o.event("reset", why)
}

// end says that nothing more will come, and why.
func (o *streamWriter) end(why string) error {
	if o.ndjson {
		return nil // the end of the body says it
	}
	return o.event("end", why)
}

func (o *streamWriter) event(kind, why string) error {
	data, err := json.Marshal(map[string]string{"reason": why})
	if err != nil {
		return err
	}
	return o.write(fmt.Appendf(nil, "event: %s\ndata: %s\n\n", kind, data))
}

// write sends bytes at once; packed ones are flushed, so that what was written
// can be unpacked.
func (o *streamWriter) write(p []byte) (err error) {
	if len(p) == 0 {
		return nil
	}
	_ = o.rc.SetWriteDeadline(time.Now().Add(o.limit))
	if o.zip != nil {
		_, err = o.zip.Write(p)
		err = errors.Join(err, o.zip.Flush())
	} else {
		_, err = o.w.Write(p)
	}
	if err != nil {
		return err
	}
	return o.rc.Flush()
}

func (o *streamWriter) finish() {
	if o.zip != nil {
		_ = o.zip.Close()
	}
	_ = o.rc.SetWriteDeadline(time.Time{})
}
