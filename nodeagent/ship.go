package nodeagent

import (
	"context"
	"encoding/json"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/nodeagent/spool"
)

// Bounds of a batch of events.
const (
	batchEvents = 500
	batchBytes  = 256 << 10
)

// shipper sends one attempt's lines in order. What is sent stays in the batch
// until it is acknowledged.
type shipper struct {
	r      *runner
	reader *spool.Reader
	source spool.Source

	batch []api.Event
	after []spool.Position // behind each event of the batch
	bytes int
	held  uint64 // the server holds all lines before this one
	limit int    // events in a batch; small while a refused one is searched for
}

// shipEvents ships the attempt's lines until ended is closed and all of them
// are acknowledged. While the control plane is away it keeps trying.
func (r *runner) shipEvents(ctx context.Context, ended <-chan struct{}) error {
	reader, err := spool.Open(r.p.events(), r.ship.position())
	if err != nil {
		return err
	}
	defer reader.Close()
	s := &shipper{r: r, reader: reader, limit: batchEvents, source: spool.Source{
		RunID: r.as.JobID, Stage: r.as.Stage.Name, Attempt: r.as.Attempt, Fence: r.as.Fence, Node: r.a.id.NodeID, Now: time.Now,
	}}
	ticker := time.NewTicker(r.a.cfg.FlushInterval)
	defer ticker.Stop()
	failures := 0
	for {
		over := closed(ended) // before reading: what is read then is all there is
		if err := s.fill(over); err != nil {
			return err
		}
		if len(s.batch) == 0 {
			if over {
				return nil
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-ended:
			case <-ticker.C:
			}
			continue
		}
		if s.send(ctx) {
			failures = 0
			continue
		}
		if !sleep(ctx, r.a.backoff(failures)) {
			return context.Cause(ctx)
		}
		failures++
	}
}

// fill reads lines into the batch. A checkpoint is queued as soon as its event
// is read.
func (s *shipper) fill(ended bool) error {
	for len(s.batch) < s.limit && s.bytes < batchBytes {
		line, ok, err := s.reader.Next(ended)
		if err != nil || !ok {
			return err
		}
		ev := s.source.Event(line)
		if ev.Checkpoint != "" {
			s.r.ship.announce(ev.Checkpoint)
		}
		if line.Seq < s.held {
			continue
		}
		data, err := json.Marshal(ev)
		if err != nil {
			return err
		}
		s.batch, s.after, s.bytes = append(s.batch, ev), append(s.after, line.Next), s.bytes+len(data)+1
	}
	return nil
}

// send ships as much of the batch as one call may carry; it says whether there
// was progress.
func (s *shipper) send(ctx context.Context) bool {
	n := s.fitting()
	ack, err := s.r.a.cp.AppendEvents(ctx, s.r.as.Fence, api.EventBatch{FirstSeq: s.batch[0].SourceSeq, Events: s.batch[:n]})
	switch {
	case isStale(err):
		s.r.stop(reasonStale)
		return false
	case isRefused(err) && n > 1:
		s.limit = max(1, n/2)
		return true
	case isRefused(err):
		// One line must not hold up all that follow.
		s.r.log.Warn("the control plane refuses an event", "seq", s.batch[0].SourceSeq, "error", err)
		old := s.batch[0]
		if old.ErrorCode == "EVENT_REFUSED" {
			return false
		}
		s.batch[0] = api.Event{
			RunID: old.RunID, Timestamp: old.Timestamp, Level: api.LevelWarn, Stage: old.Stage, Attempt: old.Attempt, Fence: old.Fence, Node: old.Node,
			SourceSeq: old.SourceSeq, ErrorCode: "EVENT_REFUSED", Message: "this line of the stage's output was refused by the control plane",
		}
		return true
	case err != nil && ack.NextSeq == 0:
		return false
	}
	s.limit = min(batchEvents, s.limit*2)
	return s.acknowledged(ack.NextSeq) && err == nil
}

// fitting is how many events of the batch fit into one call.
func (s *shipper) fitting() int {
	bytes, n := 0, 0
	for n < min(len(s.batch), s.limit) {
		data, _ := json.Marshal(s.batch[n])
		if bytes += len(data) + 1; n > 0 && bytes > batchBytes {
			break
		}
		n++
	}
	return n
}

// acknowledged moves to the line that the server wants next; it says whether
// that is another than before.
func (s *shipper) acknowledged(next uint64) bool {
	first := s.batch[0].SourceSeq
	if next == first || next == 0 {
		return false
	}
	s.held = next
	if next < first {
		// The server lost lines that it had: they are still in the file.
		if err := s.reader.Seek(next); err != nil {
			s.r.log.Error("event spool cannot be read again", "error", err)
			return false
		}
		s.drop(len(s.batch))
		return true
	}
	n := 0
	for n < len(s.batch) && s.batch[n].SourceSeq < next {
		n++
	}
	if err := s.r.ship.acked(s.after[n-1]); err != nil {
		s.r.log.Warn("shipping position cannot be kept", "error", err)
	}
	s.drop(n)
	return true
}

func (s *shipper) drop(n int) {
	s.batch, s.after = append([]api.Event(nil), s.batch[n:]...), append([]spool.Position(nil), s.after[n:]...)
	s.bytes = 0
	for _, ev := range s.batch {
		data, _ := json.Marshal(ev)
		s.bytes += len(data) + 1
	}
}
