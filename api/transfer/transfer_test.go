package transfer_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/transfer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func quick(t *testing.T) transfer.Client {
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	return transfer.Client{HTTP: &http.Client{Transport: tr}, Stall: 500 * time.Millisecond, Backoff: func(int) time.Duration { return time.Millisecond }}
}

func noise(n int) []byte {
	data := make([]byte, n)
	_, _ = rand.Read(data)
	return data
}

func sumOf(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

func piece(data []byte) transfer.Piece {
	return transfer.Piece{From: bytes.NewReader(data), Size: int64(len(data)), SHA256: sumOf(data)}
}

// script answers one request after another; the last answer stays.
type script struct {
	n     atomic.Int64
	turns []http.HandlerFunc
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n := int(s.n.Add(1))
	s.turns[min(n, len(s.turns))-1](w, r)
}

func serve(t *testing.T, turns ...http.HandlerFunc) (string, *script) {
	s := &script{turns: turns}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return server.URL + "/k?X-Amz-Signature=secret", s
}

func code(n int, reason string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(n)
		fmt.Fprintf(w, `<?xml version="1.0"?><Error><Code>%s</Code></Error>`, reason)
	}
}

// hang reads a little and then neither reads nor answers.
func hang(t *testing.T) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.CopyN(io.Discard, r.Body, 1000)
		conn, _, err := w.(http.Hijacker).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		t.Cleanup(func() { conn.Close() })
	}
}

func breakOff(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func take(into *[]byte) http.HandlerFunc {
	return func(_ http.ResponseWriter, r *http.Request) { *into, _ = io.ReadAll(r.Body) }
}

func never(t *testing.T) func(context.Context) (string, error) {
	return func(context.Context) (string, error) { t.Error("another link was asked for"); return "", io.EOF }
}

func TestAnUploadOutlivesWhatAStoreMayDo(t *testing.T) {
	data := noise(3 << 20)
	var got []byte
	link, s := serve(t, code(503, "SlowDown"), hang(t), code(500, "InternalError"), breakOff, code(400, "BadDigest"), code(400, "RequestTimeout"), take(&got))
	c := quick(t)
	var moved atomic.Int64
	c.Moved = func(n int64) { moved.Add(n) }
	if err := c.Send(t.Context(), piece(data), link, never(t)); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, data) || s.n.Load() != 7 {
		t.Errorf("%d bytes after %d requests", len(got), s.n.Load())
	}
	if moved.Load() != int64(len(data)) {
		t.Errorf("%d bytes were counted, want %d", moved.Load(), len(data))
	}
}

func TestARefusalIsFinalAfterAFewTriesAndShowsNoSignature(t *testing.T) {
	link, s := serve(t, code(400, "EntityTooLarge"))
	err := quick(t).Send(t.Context(), piece([]byte("x")), link, never(t))
	var status *transfer.StatusError
	if !errors.As(err, &status) || status.Reason != "EntityTooLarge" || strings.Contains(err.Error(), "secret") {
		t.Errorf("Send = %v", err)
	}
	if n := s.n.Load(); n < 2 || n > 10 {
		t.Errorf("%d requests", n)
	}
}

// An expired link is replaced, also where the store closes the connection before
// the refusal is heard.
func TestAnExpiredLinkIsReplaced(t *testing.T) {
	for name, expired := range map[string]http.HandlerFunc{"heard": code(403, "AccessDenied"), "unheard": breakOff} {
		old, _ := serve(t, expired)
		var got []byte
		good, _ := serve(t, take(&got))
		err := quick(t).Send(t.Context(), piece([]byte("words")), old, func(context.Context) (string, error) { return good, nil })
		if err != nil || string(got) != "words" {
			t.Errorf("%s: %v, %q", name, err, got)
		}
	}
}

func TestAFileThatChangesIsNotTakenForWhatItWas(t *testing.T) {
	var got []byte
	link, _ := serve(t, take(&got))
	p := piece([]byte("what it was"))
	p.From = strings.NewReader("what it is!")
	if err := quick(t).Send(t.Context(), p, link, never(t)); !errors.Is(err, transfer.ErrChanged) {
		t.Errorf("other bytes: %v", err)
	}
	p.From = strings.NewReader("what")
	if err := quick(t).Send(t.Context(), p, link, never(t)); !errors.Is(err, transfer.ErrChanged) {
		t.Errorf("fewer bytes: %v", err)
	}
}

func TestASealedLinkGetsTheHeadersThatItNames(t *testing.T) {
	data := []byte("words")
	raw := sha256.Sum256(data)
	var got http.Header
	link, _ := serve(t, func(_ http.ResponseWriter, r *http.Request) { got = r.Header })
	sealed := link + "&X-Amz-SignedHeaders=host%3Bx-amz-checksum-sha256%3Bx-amz-meta-sha256"
	if err := quick(t).Send(t.Context(), piece(data), sealed, never(t)); err != nil {
		t.Fatal(err)
	}
	if got.Get("X-Amz-Checksum-Sha256") != base64.StdEncoding.EncodeToString(raw[:]) || got.Get("X-Amz-Meta-Sha256") != sumOf(data) {
		t.Errorf("headers %v", got)
	}
	if err := quick(t).Send(t.Context(), piece(data), link, never(t)); err != nil || got.Get("X-Amz-Checksum-Sha256") != "" {
		t.Errorf("an older link: %v, headers %v", err, got)
	}
}

func TestADownloadGoesOnWhereItBroke(t *testing.T) {
	data := noise(1 << 20)
	var sent atomic.Int64
	some := func(n int, how http.HandlerFunc) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var from int
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from)
			w.Header().Set("Content-Length", strconv.Itoa(len(data)-from))
			if from > 0 {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
				w.WriteHeader(http.StatusPartialContent)
			}
			part := data[from:min(len(data), from+n)]
			sent.Add(int64(len(part))) // first: who has the last byte does not wait
			_, _ = w.Write(part)
			w.(http.Flusher).Flush()
			how(w, r)
		}
	}
	stall := func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }
	link, s := serve(t, code(503, "SlowDown"), some(300<<10, stall), code(404, "NoSuchKey"), some(300<<10, breakOff), code(500, ""), some(1<<20, func(http.ResponseWriter, *http.Request) {}))
	var got bytes.Buffer
	d := transfer.Download{Link: link, Size: int64(len(data)), SHA256: sumOf(data), To: &got, Sum: sha256.New()}
	if err := quick(t).Fetch(t.Context(), &d); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), data) || s.n.Load() != 6 {
		t.Errorf("%d bytes after %d requests", got.Len(), s.n.Load())
	}
	if sent.Load() != int64(len(data)) {
		t.Errorf("%d bytes were sent, want %d: each once", sent.Load(), len(data))
	}
}

func TestWrongBytesAreNotTaken(t *testing.T) {
	data := []byte("what was stored")
	for name, answer := range map[string]string{"flipped": "what was stoned", "longer": "what was stored, and more"} {
		link, _ := serve(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, answer) })
		d := transfer.Download{Link: link, Size: int64(len(data)), SHA256: sumOf(data), To: io.Discard, Sum: sha256.New()}
		if err := quick(t).Fetch(t.Context(), &d); !errors.Is(err, transfer.ErrCorrupt) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// partStore is an object store and a control plane for one file in parts.
type partStore struct {
	t   *testing.T
	url string

	mu      sync.Mutex
	begun   int
	id      string
	parts   map[int][]byte
	puts    int
	whole   []byte
	forgets int // so often it loses the upload when a part comes
}

func newPartStore(t *testing.T) *partStore {
	s := &partStore{t: t}
	s.url, _ = serve(t, s.put)
	return s
}

func (s *partStore) put(w http.ResponseWriter, r *http.Request) {
	data, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forgets > 0 {
		s.forgets--
		s.id = ""
	}
	if r.FormValue("upload") != s.id {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	n, _ := strconv.Atoi(r.FormValue("part"))
	s.parts[n] = data
	s.puts++
}

func (s *partStore) Begin(_ context.Context, id string) (m api.Multipart, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id == "" || id != s.id {
		s.begun++
		s.id, s.parts = fmt.Sprint("u", s.begun), map[int][]byte{}
	}
	m.UploadID, m.Done = s.id, s.whole != nil
	for n, data := range s.parts {
		m.Parts = append(m.Parts, api.UploadPart{Number: n, Size: int64(len(data)), SHA256: sumOf(data)})
	}
	return m, nil
}

func (s *partStore) Links(_ context.Context, id string, parts []api.UploadPart) ([]api.UploadPart, error) {
	parts = slices.Clone(parts)
	for i, p := range parts {
		parts[i].URL = fmt.Sprintf("%s&upload=%s&part=%d", s.url, id, p.Number)
	}
	return parts, nil
}

func (s *partStore) Complete(_ context.Context, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id != s.id {
		return &api.Problem{Type: api.ProblemNotStored}
	}
	for n := 1; n <= len(s.parts); n++ {
		s.whole = append(s.whole, s.parts[n]...)
	}
	return nil
}

func (s *partStore) Abort(context.Context, string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id = ""
	return nil
}

// largeFile is one of three parts.
func largeFile(t *testing.T) (*os.File, []byte, []api.UploadPart) {
	data := noise(2*16<<20 + 1000)
	path := filepath.Join(t.TempDir(), "large")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	cut := transfer.CutParts(int64(len(data)))
	if _, err := io.CopyBuffer(cut, f, make([]byte, 7777)); err != nil {
		t.Fatal(err)
	}
	return f, data, cut.List()
}

func TestOnlyMissingPartsAreSent(t *testing.T) {
	f, data, parts := largeFile(t)
	if len(parts) != 3 || parts[0].SHA256 != sumOf(data[:16<<20]) || parts[2].Size != 1000 || parts[2].SHA256 != sumOf(data[32<<20:]) {
		t.Fatalf("parts %+v", parts)
	}
	for name, c := range map[string]struct {
		have  map[int][]byte
		puts  int
		begun int
	}{
		"nothing there":      {nil, 3, 1},
		"two there":          {map[int][]byte{1: data[:16<<20], 3: data[32<<20:]}, 1, 1},
		"one is damaged":     {map[int][]byte{1: data[1 : 16<<20], 3: data[32<<20:]}, 2, 1},
		"cut in another way": {map[int][]byte{1: data[:16<<20], 4: data[32<<20:]}, 3, 2},
	} {
		s := newPartStore(t)
		id := ""
		if c.have != nil {
			m, _ := s.Begin(t.Context(), "")
			id = m.UploadID
			s.parts = c.have
		}
		var moved atomic.Int64
		by := quick(t)
		by.Stall = 5 * time.Second
		by.Moved = func(n int64) { moved.Add(n) }
		if err := by.SendParts(t.Context(), f, parts, s, id, func(string) error { return nil }); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !bytes.Equal(s.whole, data) || s.puts != c.puts || s.begun != c.begun {
			t.Errorf("%s: %d parts were sent in %d uploads, whole %v", name, s.puts, s.begun, bytes.Equal(s.whole, data))
		}
		if moved.Load() != int64(len(data)) {
			t.Errorf("%s: %d bytes were counted", name, moved.Load())
		}
	}
}

func TestAnUploadThatTheStoreForgotIsBegunAnew(t *testing.T) {
	f, data, parts := largeFile(t)
	s := newPartStore(t)
	s.forgets = 2
	var kept []string
	by := quick(t)
	by.Stall = 5 * time.Second
	if err := by.SendParts(t.Context(), f, parts, s, "", func(id string) error { kept = append(kept, id); return nil }); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(s.whole, data) || len(kept) < 2 || kept[len(kept)-1] != s.id {
		t.Errorf("whole %v, ids %v of %s", bytes.Equal(s.whole, data), kept, s.id)
	}
}

func TestPartsFitTheLimitsOfS3(t *testing.T) {
	for _, size := range []int64{transfer.PartsFrom, 5 << 30, 200 << 30, api.MaxObject} {
		each := transfer.PartSize(size)
		if n := (size + each - 1) / each; n > api.MaxParts || each < api.MinPart || each > api.MaxPut {
			t.Errorf("%d bytes: %d parts of %d", size, n, each)
		}
	}
}

// A store that is only slow must get through in the end: every try that is given
// up costs it more.
func TestASlowStoreGetsMoreTimeWithEveryStall(t *testing.T) {
	data := []byte("what comes late")
	var got []byte
	link, s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		select {
		case <-time.After(1200 * time.Millisecond): // three times what the client gives at first
			got = body
		case <-r.Context().Done():
		}
	})
	c := quick(t)
	c.Stall = 80 * time.Millisecond // 400 ms for an answer
	again := func(context.Context) (string, error) { return link, nil }
	if err := c.Send(t.Context(), piece(data), link, again); err != nil {
		t.Fatal(err)
	}
	if n := s.n.Load(); !bytes.Equal(got, data) || n < 2 {
		t.Errorf("%q after %d tries", got, n)
	}
}
