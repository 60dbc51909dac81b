package nodeagent

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/failpoint"
	"github.com/tunemesh/tunemesh/nodeagent/spool"
)

// Bounds of a batch of events.
const (
	batchEvents = 500
	batchBytes  = 256 << 10
)

const (
	// batchPause is the least time between two batches of an attempt: what comes
	// meanwhile travels together.
	batchPause = 2 * time.Millisecond
	// syncEvery is how often a spool that grows is made durable. An agent that is
	// killed loses nothing; this is for power cuts.
	syncEvery = time.Second
	// watchedPoll is how often a spool is looked at that is watched as well.
	watchedPoll = time.Second
)

// shipper sends one attempt's lines in order. What is sent stays in the batch
// until it is acknowledged.
type shipper struct {
	cp     ControlPlane
	fence  uint64
	log    *slog.Logger
	ship   *shipped
	reader *spool.Reader
	source spool.Source
	stale  func() // the control plane knows nothing of the attempt

	batch    []api.Event
	sizes    []int            // of the batch's events as JSON
	after    []spool.Position // behind each event of the batch
	bytes    int
	held     uint64 // the server holds all lines before this one
	limit    int    // events in a batch; small while a refused one is searched for
	archived bool   // the server's last word
	heard    time.Time
}

func (r *runner) newShipper(reader *spool.Reader) *shipper {
	return &shipper{cp: r.a.cp, fence: r.as.Fence, log: r.log, ship: r.ship, reader: reader, limit: batchEvents,
		stale: func() { r.stop(reasonStale) }, source: r.a.sourceOf(r.as)}
}

func (a *Agent) sourceOf(as api.Assignment) spool.Source {
	return spool.Source{RunID: as.JobID, Stage: as.Stage.Name, Attempt: as.Attempt, Fence: as.Fence, Node: a.id.NodeID, Now: time.Now}
}

// shipEvents ships the attempt's lines until ended is closed and all of them
// are acknowledged. While the control plane is away it keeps trying. While
// nothing is printed it asks now and then whether the control plane still has
// what it acknowledged.
func (r *runner) shipEvents(ctx context.Context, ended <-chan struct{}) error {
	reader, err := spool.Open(r.p.events(), r.ship.position(), r.ship.base())
	if err != nil {
		return err
	}
	var syncing sync.WaitGroup
	over := make(chan struct{})
	defer func() {
		close(over)
		syncing.Wait()
		_ = reader.Close()
		if err := r.ship.flush(); err != nil {
			r.log.Warn("shipping position cannot be kept", "error", err)
		}
	}()
	syncing.Go(func() { r.syncSpool(reader, over) })
	poll := r.a.cfg.FlushInterval
	var grew <-chan struct{}
	if r.a.cfg.PollSpools {
		r.log.Debug("the spool is looked at now and then", "why", "so configured")
	} else if watch, err := spool.NewWatch(r.p.events()); err == nil {
		defer watch.Close()
		grew, poll = watch.Grew(), max(poll, watchedPoll)
	} else {
		r.log.Debug("the spool is looked at now and then", "why", err)
	}
	s := r.newShipper(reader)
	ticker := time.NewTicker(poll)
	defer ticker.Stop()
	failures := 0
	for {
		over := closed(ended) // before reading: what is read then is all there is
		if err := s.fill(over); err != nil {
			return err
		}
		if len(s.batch) == 0 {
			if over {
				r.setLines(s.reader.Position().Seq - 1)
				return nil
			}
			if s.heard.IsZero() {
				s.heard = time.Now()
			}
			if time.Since(s.heard) >= r.a.cfg.ProbeInterval {
				s.probe(ctx)
			}
			select {
			case <-ctx.Done():
				return context.Cause(ctx)
			case <-ended:
			case <-grew:
			case <-ticker.C:
			}
			continue
		}
		sent := time.Now()
		if s.send(ctx) {
			failures = 0
			s.bound(r.a.cfg.SpoolBytes)
			if len(s.batch) == 0 && !over {
				sleep(ctx, batchPause-time.Since(sent))
			}
			continue
		}
		s.bound(r.a.cfg.SpoolBytes)
		if !sleep(ctx, r.a.backoff(failures)) {
			return context.Cause(ctx)
		}
		failures++
	}
}

// syncSpool makes what a stage prints durable now and then.
func (r *runner) syncSpool(reader *spool.Reader, over <-chan struct{}) {
	tick := time.NewTicker(syncEvery)
	defer tick.Stop()
	var synced int64
	for {
		select {
		case <-over:
			return
		case <-tick.C:
		}
		size, err := reader.Size()
		if err != nil || size == synced {
			continue
		}
		if err := reader.Sync(); err != nil {
			r.log.Warn("the spool cannot be made durable", "error", err)
			continue
		}
		synced = size
	}
}

// bound drops the oldest lines of a spool that is larger than it may be,
// acknowledged or not; a gap stands for them.
func (s *shipper) bound(most int64) {
	live, err := s.reader.Live()
	if err != nil || live <= most {
		return
	}
	base, err := s.reader.Over(most - most/4) // not again at the next line
	if err == nil {
		err = s.ship.dropped(base)
	}
	if err == nil {
		err = s.reader.Drop(base)
	}
	if err != nil {
		s.log.Warn("the spool is over its limit and cannot be cut", "bytes", live, "limit", most, "error", err)
		return
	}
	lost := uint64(0)
	if next := max(s.held, 1); base.Seq > next {
		lost = base.Seq - next
	}
	s.log.Warn("the spool reached its limit and its oldest lines are dropped", "limit", most, "lines", base.Seq-1, "not_delivered", lost)
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
			s.ship.announce(ev.Checkpoint)
		}
		if line.Seq < s.held {
			continue
		}
		data, err := json.Marshal(ev)
		if err != nil {
			return err
		}
		s.batch, s.after, s.sizes, s.bytes = append(s.batch, ev), append(s.after, line.Next), append(s.sizes, len(data)+1), s.bytes+len(data)+1
	}
	return nil
}

// firstSeq is the number of a batch's first line.
func firstSeq(batch []api.Event) uint64 {
	if g := batch[0].Gap; g != nil {
		return g.From
	}
	return batch[0].SourceSeq
}

// send ships as much of the batch as one call may carry; it says whether there
// was progress.
func (s *shipper) send(ctx context.Context) bool {
	n := s.fitting()
	ack, err := s.cp.AppendEvents(ctx, s.fence, api.EventBatch{FirstSeq: firstSeq(s.batch), Events: s.batch[:n]})
	switch {
	case isStale(err):
		s.stale()
		return false
	case isRefused(err) && n > 1:
		s.limit = max(1, n/2)
		return true
	case isRefused(err):
		// One line must not hold up all that follow.
		s.log.Warn("the control plane refuses an event", "seq", s.batch[0].SourceSeq, "error", err)
		old := s.batch[0]
		if old.ErrorCode == "EVENT_REFUSED" {
			return false
		}
		s.batch[0] = api.Event{
			RunID: old.RunID, Timestamp: old.Timestamp, Level: api.LevelWarn, Stage: old.Stage, Attempt: old.Attempt, Fence: old.Fence, Node: old.Node,
			SourceSeq: old.SourceSeq, Gap: old.Gap, ErrorCode: "EVENT_REFUSED", Message: "this line of the stage's output was refused by the control plane",
		}
		return true
	case err != nil && ack.NextSeq == 0:
		return false
	}
	s.limit = min(batchEvents, s.limit*2)
	s.heard, s.archived = time.Now(), ack.Archived
	return s.acknowledged(ack.NextSeq) && err == nil
}

// probe asks what the control plane holds, and goes back to what it has lost:
// another server leads, or its event store came back empty. It says whether
// there was an answer.
func (s *shipper) probe(ctx context.Context) bool {
	at := s.reader.Position().Seq
	ack, err := s.cp.AppendEvents(ctx, s.fence, api.EventBatch{FirstSeq: at, Events: []api.Event{}})
	if isStale(err) {
		s.stale()
		return false
	}
	s.heard = time.Now() // also of a failure: not at every line
	if err != nil && ack.NextSeq == 0 {
		return false
	}
	s.archived = ack.Archived
	if ack.NextSeq > 0 && ack.NextSeq < at {
		s.log.Info("the control plane lost lines and gets them again", "from", ack.NextSeq, "to", at-1)
		s.held = ack.NextSeq
		if err := s.reader.Seek(ack.NextSeq); err != nil {
			s.log.Error("event spool cannot be read again", "error", err)
			return false
		}
	}
	return true
}

// fitting is how many events of the batch fit into one call.
func (s *shipper) fitting() int {
	bytes, n := 0, 0
	for n < min(len(s.batch), s.limit) {
		if bytes += s.sizes[n]; n > 0 && bytes > batchBytes {
			break
		}
		n++
	}
	return n
}

// acknowledged moves to the line that the server wants next; it says whether
// that is another than before.
func (s *shipper) acknowledged(next uint64) bool {
	first := firstSeq(s.batch)
	if next == first || next == 0 {
		return false
	}
	s.held = next
	if next < first {
		// The server lost lines that it had: they are still in the file.
		if err := s.reader.Seek(next); err != nil {
			s.log.Error("event spool cannot be read again", "error", err)
			return false
		}
		s.drop(len(s.batch))
		return true
	}
	n := 0
	for n < len(s.batch) && s.batch[n].SourceSeq < next {
		n++
	}
	if n > 0 {
		_ = failpoint.At(failpoint.PositionUnnoted)
		if err := s.ship.acked(s.after[n-1]); err != nil {
			s.log.Warn("shipping position cannot be kept", "error", err)
		}
	}
	s.drop(n)
	return true
}

// drop takes the first n events off the batch.
func (s *shipper) drop(n int) {
	for _, size := range s.sizes[:n] {
		s.bytes -= size
	}
	s.batch = append([]api.Event(nil), s.batch[n:]...)
	s.after = append([]spool.Position(nil), s.after[n:]...)
	s.sizes = append([]int(nil), s.sizes[n:]...)
}
