package cache_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tunemesh/tunemesh/api/transfer"
	"github.com/tunemesh/tunemesh/nodeagent/cache"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// store serves one file; each request breaks after limit bytes (0: never).
type store struct {
	*httptest.Server
	data     []byte
	limit    atomic.Int64
	status   atomic.Int64
	requests atomic.Int64
	sent     atomic.Int64
	ranges   bool
}

func serve(t *testing.T, data []byte) *store {
	s := &store{data: data, ranges: true}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if code := s.status.Load(); code != 0 {
			w.WriteHeader(int(code))
			return
		}
		if !s.ranges {
			r.Header.Del("Range")
		}
		out := &breaking{ResponseWriter: w, left: s.limit.Load(), bounded: s.limit.Load() > 0, sent: &s.sent}
		http.ServeContent(out, r, "", time.Time{}, bytes.NewReader(s.data))
	}))
	t.Cleanup(s.Close)
	return s
}

type breaking struct {
	http.ResponseWriter
	left    int64
	bounded bool
	sent    *atomic.Int64
}

func (b *breaking) Write(p []byte) (int, error) {
	if b.bounded && int64(len(p)) > b.left {
		n, _ := b.ResponseWriter.Write(p[:b.left])
		b.sent.Add(int64(n))
		b.ResponseWriter.(http.Flusher).Flush()
		panic(http.ErrAbortHandler) // the connection breaks in the middle
	}
	b.left -= int64(len(p))
	b.sent.Add(int64(len(p)))
	return b.ResponseWriter.Write(p)
}

func item(s *store) cache.Item {
	sum := sha256.Sum256(s.data)
	return cache.Item{SHA256: hex.EncodeToString(sum[:]), Size: int64(len(s.data)), URL: s.URL + "/f?X-Amz-Signature=secret"}
}

func open(t *testing.T, dir string, max int64) *cache.Cache {
	t.Helper()
	tr := &http.Transport{}
	t.Cleanup(tr.CloseIdleConnections)
	c, err := cache.Open(dir, max, transfer.Client{HTTP: &http.Client{Transport: tr}, Backoff: func(n int) time.Duration { return time.Millisecond << min(n, 5) }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func bytesOf(n int, seed byte) []byte {
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(i*7) + seed + byte(i>>8)
	}
	return data
}

func TestABrokenTransferContinuesWhereItStopped(t *testing.T) {
	s := serve(t, bytesOf(1<<20, 1))
	s.limit.Store(300 << 10)
	path := filepath.Join(t.TempDir(), "in", "a")
	if err := open(t, t.TempDir(), 1<<30).Place(t.Context(), item(s), path); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, s.data) {
		t.Error("the file differs")
	}
	if s.requests.Load() < 4 {
		t.Errorf("%d requests: the transfer never broke", s.requests.Load())
	}
	if sent := s.sent.Load(); sent > int64(len(s.data))*3/2 {
		t.Errorf("%d bytes were sent for a file of %d: it began anew", sent, len(s.data))
	}
}

// The agent was killed in mid-transfer: the next one goes on from the disk.
func TestABeginningOnDiskIsUsedAndAWrongOneThrownAway(t *testing.T) {
	for name, beginning := range map[string][]byte{"right": bytesOf(1<<20, 1)[:700<<10], "wrong": bytesOf(700<<10, 9), "too long": bytesOf(2<<20, 1)} {
		s := serve(t, bytesOf(1<<20, 1))
		dir := t.TempDir()
		c := open(t, dir, 1<<30)
		if err := os.WriteFile(filepath.Join(dir, "partial", item(s).SHA256), beginning, 0o640); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(t.TempDir(), "a")
		if err := c.Place(t.Context(), item(s), path); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, s.data) {
			t.Errorf("%s: the file differs", name)
		}
		if name == "right" && s.sent.Load() > 400<<10 {
			t.Errorf("right: %d bytes were sent again", s.sent.Load())
		}
	}
}

func TestAStoreWithoutRangesWorksToo(t *testing.T) {
	s := serve(t, bytesOf(1<<20, 1))
	s.ranges = false
	dir := t.TempDir()
	c := open(t, dir, 1<<30)
	if err := os.WriteFile(filepath.Join(dir, "partial", item(s).SHA256), s.data[:1000], 0o640); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "a")
	if err := c.Place(t.Context(), item(s), path); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(path); !bytes.Equal(got, s.data) {
		t.Error("the file differs")
	}
}

func TestWrongBytesAreRefusedAndNothingOfThemStays(t *testing.T) {
	s := serve(t, bytesOf(1000, 1))
	it := item(s)
	it.SHA256 = strings.Repeat("ab", 32)
	dir, path := t.TempDir(), filepath.Join(t.TempDir(), "a")
	err := open(t, dir, 1<<30).Place(t.Context(), it, path)
	if !errors.Is(err, cache.ErrCorrupt) {
		t.Fatalf("Place = %v", err)
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("the error shows the link's signature: %v", err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("the file was placed")
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*", "*", "*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
	short := item(s)
	short.Size-- // the store's file is longer than it should be
	if err := open(t, dir, 1<<30).Place(t.Context(), short, path); !errors.Is(err, cache.ErrCorrupt) {
		t.Errorf("longer file: %v", err)
	}
}

func TestAnExpiredLinkIsNotTriedAgainAndABusyStoreIs(t *testing.T) {
	s := serve(t, bytesOf(1000, 1))
	c := open(t, t.TempDir(), 1<<30)
	s.status.Store(http.StatusForbidden)
	var status *transfer.StatusError
	if err := c.Place(t.Context(), item(s), filepath.Join(t.TempDir(), "a")); !errors.As(err, &status) || status.Code != 403 {
		t.Errorf("Place = %v", err)
	}
	if s.requests.Load() != 1 {
		t.Errorf("%d requests for an expired link", s.requests.Load())
	}
	s.status.Store(http.StatusServiceUnavailable)
	go func() { time.Sleep(5 * time.Millisecond); s.status.Store(0) }()
	if err := c.Place(t.Context(), item(s), filepath.Join(t.TempDir(), "a")); err != nil {
		t.Errorf("Place = %v", err)
	}
}

func TestManyCallersFetchOnce(t *testing.T) {
	s := serve(t, bytesOf(1<<20, 1))
	c, dir := open(t, t.TempDir(), 1<<30), t.TempDir()
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			if err := c.Place(t.Context(), item(s), filepath.Join(dir, string(rune('a'+i)))); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if n := s.requests.Load(); n != 1 {
		t.Errorf("%d requests, want 1", n)
	}
}

// A stage that writes into its input must not spoil the next one's.
func TestABlobThatWasWrittenToIsFetchedAgain(t *testing.T) {
	s := serve(t, bytesOf(5000, 1))
	c, dir := open(t, t.TempDir(), 1<<30), t.TempDir()
	first, second := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := c.Place(t.Context(), item(s), first); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(first, 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(first, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("spoiled"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	if err := c.Place(t.Context(), item(s), second); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(second); !bytes.Equal(got, s.data) {
		t.Error("the spoiled bytes were used")
	}
}

func TestTheLeastRecentlyUsedGoFirst(t *testing.T) {
	dir, out := t.TempDir(), t.TempDir()
	c := open(t, dir, 2500)
	stores := []*store{serve(t, bytesOf(1000, 1)), serve(t, bytesOf(1000, 2)), serve(t, bytesOf(1000, 3))}
	place := func(i int) {
		t.Helper()
		if err := c.Place(t.Context(), item(stores[i]), filepath.Join(out, "f")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(15 * time.Millisecond)
	}
	place(0)
	place(1)
	place(0)
	place(2) // evicts 1, not 0
	place(0)
	if n := stores[0].requests.Load(); n != 1 {
		t.Errorf("the file in use was fetched %d times", n)
	}
	place(1)
	if n := stores[1].requests.Load(); n != 2 {
		t.Errorf("the evicted file was fetched %d times, want 2", n)
	}
}

// What an attempt has been given stays there, also when the cache has to make room.
func TestAnEvictedFileStaysWithTheAttemptThatHasIt(t *testing.T) {
	out := t.TempDir()
	c := open(t, t.TempDir(), 1500)
	for i := range 3 {
		s := serve(t, bytesOf(1000, byte(i)))
		path := filepath.Join(out, string(rune('a'+i)))
		if err := c.Place(t.Context(), item(s), path); err != nil {
			t.Fatal(err)
		}
		if n := c.Stats().Bytes; n > 1500 {
			t.Errorf("the cache holds %d bytes of 1500", n)
		}
	}
	for i := range 3 {
		if got, err := os.ReadFile(filepath.Join(out, string(rune('a'+i)))); err != nil || !bytes.Equal(got, bytesOf(1000, byte(i))) {
			t.Errorf("the attempt's file %d is gone or another: %v", i, err)
		}
	}
}

func TestACancelledCallerLeaves(t *testing.T) {
	block := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-block:
		case <-r.Context().Done():
		}
	}))
	defer srv.Close()
	defer close(block)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	it := cache.Item{SHA256: strings.Repeat("ab", 32), Size: 10, URL: srv.URL}
	if err := open(t, t.TempDir(), 1).Place(ctx, it, filepath.Join(t.TempDir(), "a")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Place = %v", err)
	}
}
