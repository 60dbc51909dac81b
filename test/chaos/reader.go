//go:build linux

package chaos

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// reader follows a job's events and hangs up every 200 ms, each time at another
// server; what it reads must be 1, 2, 3 ... all the same.
type reader struct {
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
	done    chan struct{}
}

const hangUp = 200 * time.Millisecond

// follow starts two readers of a job that must read the same.
func (w *workload) follow(ctx context.Context, p *planned) {
	for _, name := range []string{p.id + "/1", p.id + "/2"} {
		r := &reader{job: p.id, done: make(chan struct{})}
		w.mu.Lock()
		w.readers[name] = r
		w.mu.Unlock()
		offset := len(w.readers)
		w.running.Go(func() {
			defer close(r.done)
			for i := offset; ctx.Err() == nil; i++ {
				server := w.mesh.servers[i%len(w.mesh.servers)].url
				if r.connect(ctx, w.mesh.http, server, w.token) {
					return
				}
				// Hundreds of readers would be a load test.
				if !sleepFor(ctx, 300*time.Millisecond) {
					return
				}
			}
		})
	}
}

func (r *reader) wait() { <-r.done }

// connect reads for a while and says whether the stream has ended.
func (r *reader) connect(ctx context.Context, hc *http.Client, server, token string) bool {
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
	hang := time.AfterFunc(hangUp, cancel)
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
func (r *reader) forget() (before string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before = r.lastID
	r.last, r.lastID, r.sums, r.events = 0, "", nil, nil
	r.resets++
	return before
}

// take checks an event's number.
func (r *reader) take(id, data string) {
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

// eventFaults checks the readers of every job: numbers without hole or repeat,
// the same text for both, and within each attempt lines 1, 2, 3 ...
func (w *workload) eventFaults() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var faults []string
	for _, id := range w.order {
		a, b := w.readers[id+"/1"], w.readers[id+"/2"]
		if a == nil || b == nil {
			continue
		}
		a.mu.Lock()
		b.mu.Lock()
		faults = append(faults, a.faults...)
		faults = append(faults, b.faults...)
		_, lifeA, _ := strings.Cut(a.lastID, ".")
		_, lifeB, _ := strings.Cut(b.lastID, ".")
		for i := range min(len(a.sums), len(b.sums)) {
			if lifeA != lifeB {
				break // one had heard the end before events were lost
			}
			if a.sums[i] != b.sums[i] {
				faults = append(faults, fmt.Sprintf("two readers of %s got different events %d", id, i+1))
				break
			}
		}
		faults = append(faults, lineFaults(id, a.events)...)
		b.mu.Unlock()
		a.mu.Unlock()
	}
	return faults
}

// lineFaults checks that an attempt's lines come in their order, each once.
func lineFaults(job string, list []api.Event) []string {
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
