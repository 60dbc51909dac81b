package invariant

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// Reader follows a job's events and hangs up again and again, each time at another
// server; what it reads must be 1, 2, 3 ... all the same.
type Reader struct {
	// Stay is how long it stays connected, Pause how long it then waits.
	Stay, Pause time.Duration

	job    string
	mu     sync.Mutex
	last   uint64
	lastID string
	sums   [][8]byte // of each event's text, by number
	events []api.Event
	ended  bool
	resets int
	// reasons are what the server said about them.
	reasons []string
	faults  []string
}

// NewReader returns one that has read nothing of a job yet and hangs up every
// 200 ms. Hundreds that came back at once would be a load test.
func NewReader(job string) *Reader {
	return &Reader{job: job, Stay: 200 * time.Millisecond, Pause: 300 * time.Millisecond}
}

// Follow reads from one server after another, from the one with the number first
// on, until the stream has ended or ctx has.
func (r *Reader) Follow(ctx context.Context, hc *http.Client, servers []string, first int, token string) {
	for i := first; ctx.Err() == nil; i++ {
		if r.connect(ctx, hc, servers[i%len(servers)], token) {
			return
		}
		select {
		case <-time.After(r.Pause):
		case <-ctx.Done():
			return
		}
	}
}

// Seen is what a reader has got.
type Seen struct {
	Events []api.Event
	Ended  bool // the stream said so
	// Resets are how often the reader was told to read anew, Reasons what it was
	// told.
	Resets  int
	Reasons []string
}

// Seen returns what the reader has got so far.
func (r *Reader) Seen() Seen {
	r.mu.Lock()
	defer r.mu.Unlock()
	return Seen{Events: slices.Clone(r.events), Ended: r.ended, Resets: r.resets, Reasons: slices.Clone(r.reasons)}
}

// connect reads for a while and says whether the stream has ended.
func (r *Reader) connect(ctx context.Context, hc *http.Client, server, token string) bool {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	r.mu.Lock()
	after := r.lastID
	r.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server+"/v1/jobs/"+r.job+"/events", nil)
	if err != nil {
		return false
	}
	if t, err := api.ParseToken(token); err == nil {
		req.Header.Set("Authorization", "Bearer "+t.Bearer)
	}
	req.Header.Set("Accept", "text/event-stream")
	if after != "" {
		req.Header.Set("Last-Event-ID", after)
	}
	resp, err := hc.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return false
	}
	hang := time.AfterFunc(r.Stay, cancel)
	defer hang.Stop()
	scan := bufio.NewScanner(resp.Body)
	scan.Buffer(nil, 1<<20)
	id, data, ending, resetting, before := "", "", false, false, ""
	for scan.Scan() {
		line := scan.Text()
		switch {
		case line == "":
			if ending {
				r.mu.Lock()
				r.ended = true
				r.mu.Unlock()
				return true
			}
			// An event counts when its empty line has come: the last one before the
			// reader hung up may be cut.
			if data != "" {
				r.take(id, data)
			}
			id, data, resetting = "", "", false
		case strings.HasPrefix(line, "event: end"):
			ending = true
		case strings.HasPrefix(line, "event: reset"):
			resetting = true
			before = r.forget()
		case strings.HasPrefix(line, "id: "):
			id = line[4:]
		case strings.HasPrefix(line, "data: ") && resetting:
			r.mu.Lock()
			r.reasons = append(r.reasons, fmt.Sprintf("%s after %s: %s", time.Now().UTC().Format("15:04:05.000"), before, line[6:]))
			r.mu.Unlock()
		case strings.HasPrefix(line, "data: ") && !ending:
			data = line[6:]
		}
	}
	return false
}

// forget starts again from the first event: the server said that Redis had lost
// some that the reader has, and that what comes now is the whole stream anew.
// With its default of one fsync a second Redis may lose up to two seconds.
func (r *Reader) forget() (before string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = r.lastID
	r.last, r.lastID, r.sums, r.events = 0, "", nil, nil
	r.resets++
	return before
}

// take checks an event's number.
func (r *Reader) take(id, data string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var e api.Event
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		r.faults = append(r.faults, fmt.Sprintf("event after %d of %s cannot be read: %v", r.last, r.job, err))
		return
	}
	number, life, _ := strings.Cut(id, ".")
	_, before, _ := strings.Cut(r.lastID, ".")
	if e.Seq != r.last+1 || number != strconv.FormatUint(e.Seq, 10) {
		r.faults = append(r.faults, fmt.Sprintf("after event %d of %s comes event %d (id %s)", r.last, r.job, e.Seq, id))
	}
	// A stream that lost events begins a new life, and says so first.
	if r.last > 0 && life != before {
		r.faults = append(r.faults, fmt.Sprintf("the stream of %s began anew after event %d: id %s after %s", r.job, r.last, id, r.lastID))
	}
	r.last, r.lastID = e.Seq, id
	r.events = append(r.events, e)
	sum := sha256.Sum256([]byte(data))
	r.sums = append(r.sums, [8]byte(sum[:8]))
}

// EventFaults says what is wrong with what two readers of a job got: numbers with
// a hole or a repeat, different texts, or an attempt's lines that are not 1, 2,
// 3 ...
func EventFaults(a, b *Reader) []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	faults := append(slices.Clone(a.faults), b.faults...)
	_, lifeA, _ := strings.Cut(a.lastID, ".")
	_, lifeB, _ := strings.Cut(b.lastID, ".")
	for i := range min(len(a.sums), len(b.sums)) {
		if lifeA != lifeB {
			break // one had heard the end before events were lost
		}
		if a.sums[i] != b.sums[i] {
			faults = append(faults, fmt.Sprintf("two readers of %s got different events %d", a.job, i+1))
			break
		}
	}
	return append(faults, LineFaults(a.job, a.events)...)
}

// LineFaults checks that an attempt's lines come in their order, each once.
func LineFaults(job string, list []api.Event) []string {
	var faults []string
	next := map[uint64]uint64{} // by fence; 0 is the control plane itself
	for _, e := range list {
		if e.Level == api.LevelState || e.SourceSeq == 0 {
			continue
		}
		want := next[e.Fence] + 1
		if e.SourceSeq != want {
			faults = append(faults, fmt.Sprintf("job %s, fence %d: line %d comes where line %d should", job, e.Fence, e.SourceSeq, want))
		}
		next[e.Fence] = e.SourceSeq
	}
	return faults
}
