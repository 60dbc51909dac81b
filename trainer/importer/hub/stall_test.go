package hub_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/trainer/importer/hub"
)

// stallClock is a clock on which the time of waiting runs out as soon as everything has
// arrived that the server is going to send.
type stallClock struct {
	mu      sync.Mutex
	arrived int64
	silent  int64 // at how many bytes the server says nothing more
	waited  []time.Duration
}

func (c *stallClock) progress(done, _ int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.arrived = done
}

func (c *stallClock) stall(at int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.silent = at
}

type stallTimer struct {
	clock *stallClock
	end   func()
}

func (c *stallClock) after(_ time.Duration, end func()) hub.Timer { return &stallTimer{c, end} }

func (t *stallTimer) Stop() bool { return true }

func (t *stallTimer) Reset(d time.Duration) bool {
	c := t.clock
	c.mu.Lock()
	over := c.silent > 0 && c.arrived >= c.silent
	if over {
		c.silent = 0
		c.waited = append(c.waited, d)
	}
	c.mu.Unlock()
	if over {
		t.end()
	}
	return true
}

// fetchStalling fetches from a server that sends piece bytes of the weights at a time and then
// keeps the connection open without a word, times times.
func fetchStalling(t *testing.T, s *server, dir string, piece, times int, ranges bool) (hub.Fetched, *stallClock, error) {
	t.Helper()
	clock := &stallClock{}
	small := 0
	for _, name := range needed {
		if name != "model.safetensors" {
			small += len(s.files[name])
		}
	}
	data := s.files["model.safetensors"]
	s.spoil = func(w http.ResponseWriter, r *http.Request, n int) bool {
		if r.URL.Path != "/model.safetensors" || n > times {
			return false
		}
		from := 0
		if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &from); err == nil && ranges {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, len(data)-1, len(data)))
			w.WriteHeader(http.StatusPartialContent)
		} else {
			from = 0
		}
		until := min(from+piece, len(data))
		clock.stall(int64(small + until))
		_, _ = w.Write(data[from:until])
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		return true
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c := client(t, hub.Config{Endpoint: s.URL, Client: &http.Client{Transport: transport}, AfterFunc: clock.after,
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() }})
	src, err := hub.Parse("hf:org/model")
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Fetch(context.Background(), src, dir, hub.Hooks{Progress: clock.progress})
	return got, clock, err
}

// A hub that falls silent is asked again after a minute, for what is missing.
func TestASilentHubIsAskedAgain(t *testing.T) {
	s := newServer(t)
	got, clock, err := fetchStalling(t, s, t.TempDir(), 30_000, 8, true)
	if err != nil {
		t.Fatal(err)
	}
	s.check(got, needed...)
	if len(clock.waited) != 8 || clock.waited[0] != time.Minute {
		t.Errorf("waited %v", clock.waited)
	}
	for _, want := range []string{"GET /model.safetensors bytes=30000-", "GET /model.safetensors bytes=240000-"} {
		if !slices.Contains(s.requests, want) {
			t.Errorf("no request %q among %q", want, s.requests)
		}
	}
}

// One that stays silent is given up, with what to do; what came stays for the next call.
func TestAHubThatStaysSilentIsGivenUp(t *testing.T) {
	for _, ranges := range []bool{true, false} {
		s, dir := newServer(t), t.TempDir()
		piece := 1_000
		if ranges {
			piece = 0 // after what an earlier call has left
			folder := filepath.Join(dir, "org--model", head)
			if err := os.MkdirAll(folder, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder, "model.safetensors.part"), s.files["model.safetensors"][:1_000], 0o644); err != nil {
				t.Fatal(err)
			}
		}
		_, _, err := fetchStalling(t, s, dir, piece, 1_000, ranges)
		var gone *hub.UnavailableError
		if !errors.As(err, &gone) {
			t.Fatalf("ranges %v: %v", ranges, err)
		}
		for _, want := range []string{"hf:org/model@main", "model.safetensors: the hub has sent nothing for 1m0s after 1000 of 300000 bytes", "tries)", "try again later", "goes on from there"} {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("ranges %v: %v, want %q", ranges, err, want)
			}
		}
		st, err := os.Stat(filepath.Join(dir, "org--model", head, "model.safetensors.part"))
		if err != nil || st.Size() != 1_000 {
			t.Errorf("ranges %v: %v, %v", ranges, st, err)
		}
	}
}

// The same holds while the answer has not begun.
func TestAHubThatNeverAnswers(t *testing.T) {
	s := newServer(t)
	s.spoil = func(_ http.ResponseWriter, r *http.Request, _ int) bool { <-r.Context().Done(); return true }
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	c := client(t, hub.Config{Endpoint: s.URL, Client: &http.Client{Transport: transport}, Tries: 2,
		AfterFunc: func(_ time.Duration, end func()) hub.Timer { return time.AfterFunc(time.Millisecond, end) },
		Sleep:     func(ctx context.Context, _ time.Duration) error { return ctx.Err() }})
	src, err := hub.Parse("hf:org/model")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Fetch(context.Background(), src, t.TempDir(), hub.Hooks{}); err == nil || !strings.Contains(err.Error(), "sent nothing for 1m0s (after 2 tries)") {
		t.Errorf("%v", err)
	}
}
