package nodeagent_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/tunemesh/tunemesh/api"
)

// plane is a control plane in memory with an object store beside it. It keeps
// the promises that an agent relies on, and can be told to break down.
type plane struct {
	t     *testing.T
	store *httptest.Server

	mu          sync.Mutex
	changed     chan struct{} // closed and replaced at every change
	index       uint64
	set         map[uint64]api.Assignment
	stale       map[uint64]bool
	events      map[uint64][]api.Event
	reports     map[uint64][]api.AttemptReport
	checkpoints map[uint64][]api.CheckpointReport
	beats       []api.Heartbeat
	regs        []api.Registration
	objects     map[string][]byte
	down        bool // every call fails
	// holes counts batches that begin behind what is held.
	holes       int
	ackLost     int // so many batches are stored, but their answer is lost
	breakAfter  int // GETs break after so many bytes, so many times
	breaks      int
	putFailures int                    // so many PUTs answer 503
	noParts     bool                   // an older control plane, without uploads in parts
	uploads     map[string]*partUpload // in parts, by their id
	partsLeft   int                    // more than so many parts hang; 0: none does
	partPuts    int                    // parts that were stored
	stalls      map[string]int         // so many transfers hang, by their method
	losing      int                    // so many reports are refused: the store has lost their files
	ttl         time.Duration
	keeps       bool            // lines of attempts that are over are welcome
	archived    map[uint64]bool // lines that need not be kept
}

func newPlane(t *testing.T) *plane {
	p := &plane{
		t: t, changed: make(chan struct{}), index: 10, set: map[uint64]api.Assignment{}, stale: map[uint64]bool{},
		events: map[uint64][]api.Event{}, reports: map[uint64][]api.AttemptReport{}, checkpoints: map[uint64][]api.CheckpointReport{}, objects: map[string][]byte{},
	}
	p.store = httptest.NewServer(http.HandlerFunc(p.serveObject))
	t.Cleanup(p.store.Close)
	return p
}

var errDown = errors.New("connection refused")

func (p *plane) notifyLocked() {
	p.index++
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *plane) assign(as api.Assignment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.set[as.Fence] = as
	p.notifyLocked()
}

// withdraw takes an attempt out of the set, as a cancel does.
func (p *plane) withdraw(fence uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.set, fence)
	p.notifyLocked()
}

func (p *plane) makeStale(fence uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.stale[fence] = true
}

func (p *plane) setDown(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

// admitLocked is what every call of an attempt goes through first.
func (p *plane) admitLocked(fence uint64) error {
	if p.down {
		return errDown
	}
	if _, ok := p.set[fence]; p.stale[fence] || !ok && !p.withdrawnLocked(fence) {
		return &api.Problem{Type: api.ProblemStaleFence, Title: "stale", Status: http.StatusGone}
	}
	return nil
}

// withdrawnLocked: the attempt was here and has not been reported as over.
func (p *plane) withdrawnLocked(fence uint64) bool {
	r := p.reports[fence]
	return len(r) > 0 && !r[len(r)-1].State.Terminal()
}

func (p *plane) Register(_ context.Context, id string, r api.Registration) (api.RegistrationReply, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return api.RegistrationReply{}, errDown
	}
	p.regs = append(p.regs, r)
	return api.RegistrationReply{HeartbeatInterval: 50 * time.Millisecond, LeaseTTL: p.ttl, Protocol: api.ProtocolVersion}, nil
}

func (p *plane) Heartbeat(_ context.Context, id string, h api.Heartbeat) (api.HeartbeatReply, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.down {
		return api.HeartbeatReply{}, errDown
	}
	p.beats = append(p.beats, h)
	reply := api.HeartbeatReply{Registered: len(p.regs) > 0}
	for _, f := range h.Fences {
		if p.stale[f] {
			reply.Stale = append(reply.Stale, f)
		}
	}
	return reply, nil
}

func (p *plane) Assignments(ctx context.Context, id string, index uint64, wait time.Duration) (api.Assignments, error) {
	deadline := time.After(wait)
	for {
		p.mu.Lock()
		changed := p.changed
		if p.down {
			p.mu.Unlock()
			return api.Assignments{}, errDown
		}
		if p.index > index || wait == 0 {
			out := api.Assignments{Index: p.index}
			for _, as := range p.set {
				out.Attempts = append(out.Attempts, as)
			}
			p.mu.Unlock()
			return out, nil
		}
		p.mu.Unlock()
		select {
		case <-changed:
		case <-deadline:
			wait = 0
		case <-ctx.Done():
			return api.Assignments{}, ctx.Err()
		}
	}
}

func (p *plane) AppendEvents(_ context.Context, fence uint64, b api.EventBatch) (api.EventAck, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.admitLocked(fence); err != nil && (!p.keeps || p.down) {
		return api.EventAck{}, err
	}
	if data, _ := json.Marshal(b); len(b.Events) > 500 || len(data) > 300<<10 {
		p.t.Errorf("a batch of %d events and %d bytes", len(b.Events), len(data))
	}
	next, due := uint64(1), b.FirstSeq
	if n := len(p.events[fence]); n > 0 {
		next = p.events[fence][n-1].SourceSeq + 1
	}
	if b.FirstSeq > next {
		p.holes++
		return api.EventAck{NextSeq: next}, nil
	}
	for i, ev := range b.Events {
		if ev.Gap != nil && ev.Gap.From == due {
			due = ev.Gap.To
		}
		if ev.SourceSeq != due {
			p.t.Errorf("event %d of a batch from %d is numbered %d, want %d", i, b.FirstSeq, ev.SourceSeq, due)
		}
		due++
		if strings.Contains(ev.Message, "REFUSE ME") {
			return api.EventAck{}, &api.Problem{Type: api.ProblemInvalid, Title: "no", Status: http.StatusUnprocessableEntity}
		}
		if ev.SourceSeq >= next {
			p.events[fence] = append(p.events[fence], ev)
			next = ev.SourceSeq + 1
		}
	}
	if p.ackLost > 0 {
		p.ackLost--
		return api.EventAck{}, errors.New("connection reset")
	}
	return api.EventAck{NextSeq: next, Archived: p.archived[fence]}, nil
}

func (p *plane) RequestUploads(_ context.Context, fence uint64, r api.UploadRequest) (api.UploadReply, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.admitLocked(fence); err != nil {
		return api.UploadReply{}, err
	}
	var out api.UploadReply
	for _, f := range r.Files {
		key := fmt.Sprintf("%d/%s/%s", fence, r.Checkpoint, f.Name)
		out.Files = append(out.Files, api.Artifact{Name: f.Name, Bucket: f.Place, Key: key, Size: f.Size, SHA256: f.SHA256, URL: p.store.URL + "/" + key})
	}
	return out, nil
}

func (p *plane) ReportCheckpoint(_ context.Context, fence uint64, r api.CheckpointReport) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.admitLocked(fence); err != nil {
		return err
	}
	p.checkpoints[fence] = append(p.checkpoints[fence], r)
	return nil
}

func (p *plane) ReportAttempt(_ context.Context, fence uint64, r api.AttemptReport) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := p.admitLocked(fence); err != nil {
		return err
	}
	if p.losing > 0 && len(r.Artifacts) > 0 {
		p.losing--
		for _, a := range r.Artifacts {
			delete(p.objects, a.Key)
		}
		return &api.Problem{Type: api.ProblemNotStored, Title: "not there", Status: http.StatusUnprocessableEntity}
	}
	p.reports[fence] = append(p.reports[fence], r)
	if r.State.Terminal() {
		delete(p.set, fence)
	}
	p.notifyLocked()
	return nil
}

// partUpload is a file on its way in parts.
type partUpload struct {
	file  api.UploadFile
	key   string
	parts map[int][]byte
}

func (p *plane) Multipart(_ context.Context, fence uint64, step api.MultipartStep, r api.MultipartRequest) (api.Multipart, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.noParts {
		return api.Multipart{}, &api.Problem{Type: api.ProblemNotFound, Title: "no such route", Status: http.StatusNotFound}
	}
	if err := p.admitLocked(fence); err != nil {
		return api.Multipart{}, err
	}
	key := fmt.Sprintf("%d/%s/%s", fence, r.Checkpoint, r.File.Name)
	m := api.Multipart{UploadID: r.UploadID, File: api.Artifact{Name: r.File.Name, Bucket: r.File.Place, Key: key, Size: r.File.Size, SHA256: r.File.SHA256}}
	u := p.uploads[r.UploadID]
	notStored := &api.Problem{Type: api.ProblemNotStored, Title: "not whole", Status: http.StatusUnprocessableEntity}
	switch step {
	case api.MultipartBegin:
		if sum := sha256.Sum256(p.objects[key]); hex.EncodeToString(sum[:]) == r.File.SHA256 {
			m.Done = true
			return m, nil
		}
		if u == nil {
			m.UploadID = fmt.Sprintf("upload-%d", len(p.uploads))
			u = &partUpload{file: r.File, key: key, parts: map[int][]byte{}}
			if p.uploads == nil {
				p.uploads = map[string]*partUpload{}
			}
			p.uploads[m.UploadID] = u
		}
		for n, data := range u.parts {
			sum := sha256.Sum256(data)
			m.Parts = append(m.Parts, api.UploadPart{Number: n, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])})
		}
	case api.MultipartLinks:
		for _, part := range r.Parts {
			part.URL = fmt.Sprintf("%s/%s?uploadId=%s&partNumber=%d", p.store.URL, key, r.UploadID, part.Number)
			m.Parts = append(m.Parts, part)
		}
	case api.MultipartComplete:
		if u == nil {
			return m, notStored
		}
		var whole []byte
		for n := 1; n <= len(u.parts); n++ {
			whole = append(whole, u.parts[n]...)
		}
		if int64(len(whole)) != r.File.Size {
			return m, notStored
		}
		p.objects[key] = whole
		p.uploads[r.UploadID] = nil
	case api.MultipartAbort:
		p.uploads[r.UploadID] = nil
	}
	return m, nil
}

// servePart takes a part, or hangs.
func (p *plane) servePart(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	n, _ := strconv.Atoi(r.FormValue("partNumber"))
	p.mu.Lock()
	defer p.mu.Unlock()
	u := p.uploads[r.FormValue("uploadId")]
	switch {
	case err != nil:
	case u == nil:
		w.WriteHeader(http.StatusNotFound)
	case p.partsLeft > 0 && p.partPuts >= p.partsLeft:
		p.mu.Unlock()
		<-r.Context().Done()
		p.mu.Lock()
	default:
		u.parts[n] = body
		p.partPuts++
	}
}

func (p *plane) serveObject(w http.ResponseWriter, r *http.Request) {
	key := strings.TrimPrefix(r.URL.Path, "/")
	if r.FormValue("uploadId") != "" {
		p.servePart(w, r)
		return
	}
	p.mu.Lock()
	if p.stalls[r.Method] > 0 {
		p.stalls[r.Method]--
		p.mu.Unlock()
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
		return
	}
	if r.Method == http.MethodPut && p.putFailures > 0 {
		p.putFailures--
		p.mu.Unlock()
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	data, ok := p.objects[key]
	limit := 0
	if p.breaks > 0 && r.Method == http.MethodGet {
		p.breaks--
		limit = p.breakAfter
	}
	p.mu.Unlock()
	switch {
	case r.Method == http.MethodPut:
		body, err := io.ReadAll(r.Body)
		if err != nil || r.ContentLength != int64(len(body)) {
			w.WriteHeader(http.StatusLengthRequired)
			return
		}
		p.put(key, body)
	case !ok:
		http.NotFound(w, r)
	case limit > 0:
		w.Header().Set("Content-Length", strconv.Itoa(len(data)))
		_, _ = w.Write(data[:limit])
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	default:
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}

// put stores an object and returns it as an artifact with its link.
func (p *plane) put(key string, data []byte) api.Artifact {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.objects[key] = data
	sum := sha256.Sum256(data)
	return api.Artifact{Name: key, Key: key, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:]), URL: p.store.URL + "/" + key}
}

func (p *plane) object(key string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.objects[key])
}

// ended waits for an attempt's last report.
func (p *plane) ended(fence uint64) api.AttemptReport {
	p.t.Helper()
	var out api.AttemptReport
	p.until("the attempt ends", func() bool {
		r := p.reports[fence]
		if len(r) == 0 || !r[len(r)-1].State.Terminal() {
			return false
		}
		out = r[len(r)-1]
		return true
	})
	return out
}

// until waits for a condition, which is looked at under the lock.
func (p *plane) until(what string, holds func() bool) {
	p.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for time.Now().Before(deadline) {
		p.mu.Lock()
		ok := holds()
		p.mu.Unlock()
		if ok {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.t.Fatalf("waited in vain until %s; reports %+v", what, p.reports)
}

// messages are an attempt's events' messages, checked to be numbered from 1
// without holes.
func (p *plane) messages(fence uint64) []string {
	p.t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	var out []string
	for i, ev := range p.events[fence] {
		if ev.SourceSeq != uint64(i+1) {
			p.t.Errorf("event %d is numbered %d", i+1, ev.SourceSeq)
		}
		out = append(out, ev.Message)
	}
	return out
}

// handler serves the plane over HTTP, for an agent in another process.
func (p *plane) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("PUT /v1/nodes/{id}", serve(p, func(r *http.Request, in api.Registration) (any, error) {
		return p.Register(r.Context(), r.PathValue("id"), in)
	}))
	mux.HandleFunc("POST /v1/nodes/{id}/heartbeat", serve(p, func(r *http.Request, in api.Heartbeat) (any, error) {
		return p.Heartbeat(r.Context(), r.PathValue("id"), in)
	}))
	mux.HandleFunc("GET /v1/nodes/{id}/assignments", serve(p, func(r *http.Request, _ struct{}) (any, error) {
		index, _ := strconv.ParseUint(r.FormValue("index"), 10, 64)
		wait, _ := time.ParseDuration(r.FormValue("wait"))
		return p.Assignments(r.Context(), r.PathValue("id"), index, wait)
	}))
	mux.HandleFunc("POST /v1/attempts/{fence}/events", serve(p, func(r *http.Request, in api.EventBatch) (any, error) {
		return p.AppendEvents(r.Context(), fenceOf(r), in)
	}))
	mux.HandleFunc("POST /v1/attempts/{fence}/uploads", serve(p, func(r *http.Request, in api.UploadRequest) (any, error) {
		return p.RequestUploads(r.Context(), fenceOf(r), in)
	}))
	for _, step := range []api.MultipartStep{api.MultipartBegin, api.MultipartLinks, api.MultipartComplete, api.MultipartAbort} {
		mux.HandleFunc("POST /v1/attempts/{fence}/"+string(step), serve(p, func(r *http.Request, in api.MultipartRequest) (any, error) {
			return p.Multipart(r.Context(), fenceOf(r), step, in)
		}))
	}
	mux.HandleFunc("POST /v1/attempts/{fence}/checkpoints", serve(p, func(r *http.Request, in api.CheckpointReport) (any, error) {
		return struct{}{}, p.ReportCheckpoint(r.Context(), fenceOf(r), in)
	}))
	mux.HandleFunc("POST /v1/attempts/{fence}/report", serve(p, func(r *http.Request, in api.AttemptReport) (any, error) {
		return struct{}{}, p.ReportAttempt(r.Context(), fenceOf(r), in)
	}))
	return mux
}

func fenceOf(r *http.Request) uint64 {
	n, _ := strconv.ParseUint(r.PathValue("fence"), 10, 64)
	return n
}

func serve[In any](p *plane, call func(*http.Request, In) (any, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in In
		if r.Body != nil {
			body := io.Reader(r.Body)
			if r.Header.Get("Content-Encoding") == "zstd" {
				unpacked, err := zstd.NewReader(body)
				if err != nil {
					p.t.Error(err)
					return
				}
				defer unpacked.Close()
				body = unpacked
			}
			if err := json.NewDecoder(body).Decode(&in); err != nil && err != io.EOF {
				p.t.Errorf("%s %s: %v", r.Method, r.URL.Path, err)
			}
		}
		out, err := call(r, in)
		var problem *api.Problem
		switch {
		case errors.As(err, &problem):
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(problem.Status)
			out = problem
		case err != nil:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(out)
	}
}
