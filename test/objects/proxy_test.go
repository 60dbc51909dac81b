package objects_test

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// fault is what the proxy does to one request.
type fault string

const (
	none       fault = ""
	busy       fault = "503 SlowDown, unasked"
	broken     fault = "500, unasked"
	stale      fault = "404 for what is there"
	cutUp      fault = "upload cut"
	stallUp    fault = "upload stalled"
	flipUp     fault = "byte of an upload flipped"
	lost       fault = "done, but the answer lost"
	late       fault = "delayed"
	cutDown    fault = "download cut"
	stallDown  fault = "download stalled"
	flipDown   fault = "byte of a download flipped"
	shortDown  fault = "download ends early, as if whole"
	unreadBusy fault = "503 without reading, connection closed"
)

// What may happen to a request, by its method. Bytes are only flipped where
// Tunemesh sends them by a link: what the control plane's own client sends, that
// client checks.
var (
	upFaults    = []fault{busy, broken, cutUp, stallUp, flipUp, lost, late, unreadBusy}
	downFaults  = []fault{busy, broken, cutDown, stallDown, flipDown, shortDown, stale, late}
	lookFaults  = []fault{busy, broken, stale, late, lost}
	orderFaults = []fault{busy, broken, lost, late}
)

const (
	// rate of faulty requests in percent, and how often in a row one file may
	// fail before it is left alone.
	rate, patience = 40, 5
	// stallFor is how long a stalled transfer hangs before the proxy hangs up:
	// longer than an agent waits.
	stallFor = 3 * time.Second
	delayFor = 100 * time.Millisecond
)

// proxy stands between the mesh and the real store.
type proxy struct {
	*httptest.Server
	real string // host:port
	by   http.RoundTripper
	seed uint64
	on   atomic.Bool

	mu    sync.Mutex
	tries map[string]int // of a file
	gets  map[string]int // by a link, of BUCKET/KEY
	done  map[fault]int
	here  map[*http.Request]string // requests in the making
}

func newProxy(t *testing.T, real string, seed uint64) *proxy {
	transport := &http.Transport{DisableKeepAlives: true, DisableCompression: true}
	p := &proxy{real: real, by: transport, seed: seed, tries: map[string]int{}, gets: map[string]int{}, done: map[fault]int{}, here: map[*http.Request]string{}}
	p.Server = httptest.NewUnstartedServer(p)
	p.Config.ErrorLog = nil
	p.Start()
	t.Cleanup(p.Close)
	return p
}

// address is host:port.
func (p *proxy) address() string { return p.Listener.Addr().(*net.TCPAddr).String() }

// fate follows from the seed, what the file is called and how often it was asked
// for: not from the order in which files come.
func (p *proxy) fate(r *http.Request) (f fault, h uint64) {
	if !p.on.Load() {
		return none, 0
	}
	q := r.URL.Query()
	linked := q.Get("X-Amz-Signature") != ""
	what := fmt.Sprint(r.Method, " ", path.Base(r.URL.Path), " ", q.Get("partNumber"), q.Has("uploads"), q.Has("uploadId"), linked)
	p.mu.Lock()
	defer p.mu.Unlock()
	file := what + path.Dir(r.URL.Path)
	p.tries[file]++
	n := p.tries[file]
	hash := fnv.New64a()
	fmt.Fprint(hash, p.seed, what, n)
	h = hash.Sum64()
	h ^= h >> 29 // FNV's low bits follow the last byte too closely
	h *= 0xbf58476d1ce4e5b9
	h ^= h >> 32
	if n%(patience+1) == 0 || h%100 >= rate {
		return none, h
	}
	list := orderFaults
	switch {
	case r.Method == http.MethodPut:
		list = upFaults
	case r.Method == http.MethodGet:
		list = downFaults
	case r.Method == http.MethodHead:
		list = lookFaults
	}
	f = list[(h/100)%uint64(len(list))]
	if !linked && (f == flipUp || f == flipDown || f == shortDown) {
		f = late
	}
	p.done[f]++
	return f, h
}

// faults counts what was done.
func (p *proxy) faults() (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, done := range p.done {
		n += done
	}
	return n
}

// fetched is how often somebody read an object by a link.
func (p *proxy) fetched(bucket, key string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gets[bucket+"/"+key]
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodGet && r.URL.Query().Has("X-Amz-Signature") {
		p.mu.Lock()
		p.gets[strings.TrimPrefix(r.URL.Path, "/")]++
		p.mu.Unlock()
	}
	f, h := p.fate(r)
	defer p.note(r, f)()
	switch f {
	case busy, broken, stale, unreadBusy:
		refuse(w, r, f)
		return
	case late:
		time.Sleep(delayFor)
	}
	resp, err := p.forward(r, f, h)
	if err != nil || f == lost {
		if resp != nil {
			_, _ = io.Copy(io.Discard, resp.Body) // the store has done it
			resp.Body.Close()
		}
		panic(http.ErrAbortHandler)
	}
	defer resp.Body.Close()
	body := &meddled{r: resp.Body, f: f, at: spot(h, resp.ContentLength), down: true}
	for name, values := range resp.Header {
		w.Header()[name] = values
	}
	if f == shortDown && resp.ContentLength > 0 {
		w.Header().Set("Content-Length", strconv.FormatInt(body.at, 10))
		body.r = io.LimitReader(resp.Body, body.at)
	}
	w.WriteHeader(resp.StatusCode)
	if _, err := io.Copy(w, body); err != nil {
		panic(http.ErrAbortHandler)
	}
}

// note keeps a request among those that are here until the returned function is
// called.
func (p *proxy) note(r *http.Request, f fault) func() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.here[r] = fmt.Sprintf("%s %s %s since %s, %s", r.RemoteAddr, r.Method, r.URL.Path, time.Now().Format(time.TimeOnly), f)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.here, r)
	}
}

// refuse answers without asking the store.
func refuse(w http.ResponseWriter, r *http.Request, f fault) {
	code, reason := http.StatusServiceUnavailable, "SlowDown"
	switch f {
	case broken:
		code, reason = http.StatusInternalServerError, "InternalError"
	case stale:
		code, reason = http.StatusNotFound, "NoSuchKey"
	case unreadBusy:
		w.Header().Set("Connection", "close")
	}
	if f != unreadBusy {
		_, _ = io.Copy(io.Discard, r.Body)
	}
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(code)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>the proxy says so</Message></Error>`, reason)
}

// forward passes a request on as it is; the signature covers its Host.
func (p *proxy) forward(r *http.Request, f fault, h uint64) (*http.Response, error) {
	u, err := url.Parse("http://" + p.real + r.RequestURI)
	if err != nil {
		return nil, err
	}
	out := r.Clone(r.Context())
	out.URL, out.Host, out.RequestURI = u, r.Host, ""
	if r.ContentLength != 0 {
		out.Body = io.NopCloser(&meddled{r: r.Body, f: f, at: spot(h, r.ContentLength)})
	}
	return p.by.RoundTrip(out)
}

// spot is the byte at which something happens to size bytes.
func spot(h uint64, size int64) int64 {
	if size <= 1 {
		return 0
	}
	return int64(h/7%uint64(size-1)) + 1
}

var errCut = errors.New("cut")

// meddled is a body to which something happens at one byte.
type meddled struct {
	r    io.Reader
	f    fault
	at   int64
	down bool
	n    int64
}

// Read implements io.Reader.
func (m *meddled) Read(b []byte) (int, error) {
	here := m.at - m.n // bytes up to the spot
	breaks := m.f == cutUp || m.f == stallUp
	if m.down {
		breaks = m.f == cutDown || m.f == stallDown
	}
	if breaks {
		if here <= 0 {
			if m.f == stallUp || m.f == stallDown {
				time.Sleep(stallFor)
			}
			return 0, errCut
		}
		b = b[:min(int64(len(b)), here)]
	}
	n, err := m.r.Read(b)
	if flips := m.f == flipUp && !m.down || m.f == flipDown && m.down; flips && here > 0 && here <= int64(n) {
		b[here-1] ^= 0x10
	}
	m.n += int64(n)
	return n, err
}

// tell lists what was done.
func (p *proxy) tell() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var b strings.Builder
	for f, n := range p.done {
		fmt.Fprintf(&b, "\n  %4d  %s", n, f)
	}
	for _, request := range p.here {
		b.WriteString("\n  still here: " + request)
	}
	return b.String()
}
