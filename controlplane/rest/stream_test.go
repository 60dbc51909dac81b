package rest_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/events"
	"github.com/tunemesh/tunemesh/controlplane/events/eventstest"
	"github.com/tunemesh/tunemesh/controlplane/rest"
)

// running submits a job that no node will run, with n events in its stream
// beside its STATE events.
func running(t *testing.T, m *mesh, n int) string {
	t.Helper()
	user := m.client(api.RoleUser)
	d := upload(t, user, "t.csv", "text,label\na,b\n")
	job, err := user.SubmitJob(t.Context(), api.JobSpec{Dataset: d.ID, Pipeline: twoStages()})
	if err != nil {
		t.Fatal(err)
	}
	appendLines(t, m, job.ID, 1, n)
	return job.ID
}

func appendLines(t *testing.T, m *mesh, job string, first uint64, n int) {
	t.Helper()
	if _, err := m.events.Append(t.Context(), job, "a1", first, eventstest.Batch("a1", first, n)); err != nil {
		t.Fatal(err)
	}
}

// open opens a stream as it is on the wire.
func (m *mesh) open(t *testing.T, path string, header map[string]string) *http.Response {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, "GET", m.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+m.tokens[api.RoleViewer])
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

func TestAStreamOnTheWire(t *testing.T) {
	m := newMesh(t)
	job := running(t, m, 3)
	resp := m.open(t, "/v1/jobs/"+job+"/events?follow=false&level=info", map[string]string{"Last-Event-ID": "0"})
	for name, want := range map[string]string{"Content-Type": "text/event-stream", "X-Accel-Buffering": "no", "Cache-Control": "no-cache, no-transform"} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s is %q, want %q", name, got, want)
		}
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(strings.TrimSpace(string(body)), "\n\n")
	if blocks[0] != ":" || blocks[len(blocks)-1] != "event: end\ndata: {\"reason\":\"newest\"}" {
		t.Errorf("the stream begins with %q and ends with %q", blocks[0], blocks[len(blocks)-1])
	}
	var words []string
	for _, b := range blocks[1 : len(blocks)-1] {
		var e api.Event
		id, data, _ := strings.Cut(b, "\ndata: ")
		if json.Unmarshal([]byte(data), &e) != nil || !strings.HasPrefix(id, fmt.Sprintf("id: %d.", e.Seq)) {
			t.Errorf("block %q", b)
		}
		words = append(words, e.Message)
	}
	if want := []string{"a1/1", "a1/2", "a1/3"}; !slices.Equal(words, want) {
		t.Errorf("got %v, want %v", words, want)
	}

	resp = m.open(t, "/v1/jobs/"+job+"/events?follow=false&level=INFO&after=0", map[string]string{"Accept": "application/x-ndjson"})
	n := 0
	scan := bufio.NewScanner(resp.Body)
	for scan.Scan() {
		if len(scan.Bytes()) == 0 {
			continue
		}
		var e api.Event
		if err := json.Unmarshal(scan.Bytes(), &e); err != nil || e.Level != api.LevelInfo {
			t.Errorf("line %q: %v", scan.Text(), err)
		}
		n++
	}
	if n != 3 || resp.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Errorf("%d JSON lines of type %q", n, resp.Header.Get("Content-Type"))
	}
}

func TestAStreamGoesOnFromTheLastEventID(t *testing.T) {
	m := newMesh(t)
	job := running(t, m, 20)
	// Cut the stream after each event and go on from its number.
	var words []string
	after := "0"
	for len(words) < 20 {
		resp := m.open(t, "/v1/jobs/"+job+"/events?level=INFO", map[string]string{"Last-Event-ID": after})
		scan := bufio.NewScanner(resp.Body)
		for scan.Scan() {
			if id, ok := strings.CutPrefix(scan.Text(), "id: "); ok {
				after = id
			}
			if data, ok := strings.CutPrefix(scan.Text(), "data: "); ok {
				var e api.Event
				if err := json.Unmarshal([]byte(data), &e); err != nil {
					t.Fatal(err)
				}
				words = append(words, e.Message)
				break
			}
		}
		resp.Body.Close()
	}
	for i, w := range words {
		if w != fmt.Sprintf("a1/%d", i+1) {
			t.Fatalf("event %d is %q", i+1, w)
		}
	}
}

// flaky breaks connections after some bytes of each answer.
type flaky struct{ next http.RoundTripper }

type flakyBody struct {
	io.ReadCloser
	left int
}

func (b *flakyBody) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errors.New("connection broken")
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

func (f flaky) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := f.next.RoundTrip(r)
	if err == nil && strings.HasSuffix(r.URL.Path, "/events") {
		resp.Body = &flakyBody{resp.Body, 900}
	}
	return resp, err
}

func TestTheClientFollowsThroughBrokenConnectionsToTheEnd(t *testing.T) {
	m := newMesh(t)
	job := running(t, m, 10)
	c := m.clientWith(api.RoleViewer, flaky{&http.Transport{DisableKeepAlives: true}})
	var wg sync.WaitGroup
	var words []string
	wg.Go(func() {
		err := c.Events(t.Context(), job, 0, true, func(e api.Event) error {
			if e.Level == api.LevelInfo {
				words = append(words, e.Message)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	})
	for first := uint64(11); first <= 30; first += 5 {
		appendLines(t, m, job, first, 5)
		time.Sleep(20 * time.Millisecond)
	}
	if _, err := m.client(api.RoleUser).CancelJob(t.Context(), job, ""); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if len(words) != 30 {
		t.Fatalf("%d events", len(words))
	}
	for i, w := range words {
		if w != fmt.Sprintf("a1/%d", i+1) {
			t.Fatalf("event %d is %q", i+1, w)
		}
	}
}

func TestTheStreamOfAFinishedJobHoldsItsLastState(t *testing.T) {
	m := newMesh(t)
	job := running(t, m, 0)
	if _, err := m.client(api.RoleUser).CancelJob(t.Context(), job, ""); err != nil {
		t.Fatal(err)
	}
	var last api.Event
	if err := m.client(api.RoleViewer).Events(t.Context(), job, 0, true, func(e api.Event) error {
		if e.Level == api.LevelState && e.Stage == "" {
			last = e
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if last.To != string(api.JobCancelled) {
		t.Errorf("the job's last state in the stream is %+v", last)
	}
}

func TestASilentStreamShowsThatItLives(t *testing.T) {
	m := newMesh(t, func(c *rest.Config) { c.StreamHeartbeat = 20 * time.Millisecond })
	job := running(t, m, 0)
	resp := m.open(t, "/v1/jobs/"+job+"/events", nil)
	comments := 0
	scan := bufio.NewScanner(resp.Body)
	for comments < 4 && scan.Scan() {
		if scan.Text() == ":" {
			comments++
		}
	}
	if comments < 4 {
		t.Errorf("%d comments, then %v", comments, scan.Err())
	}
}

func TestStreamsAreBoundedAndEndWithTheServer(t *testing.T) {
	m := newMesh(t, func(c *rest.Config) { c.MaxStreams = 1 })
	job := running(t, m, 1)
	first := m.open(t, "/v1/jobs/"+job+"/events", nil)
	second := m.open(t, "/v1/jobs/"+job+"/events", nil)
	if second.StatusCode != http.StatusServiceUnavailable || second.Header.Get("Retry-After") == "" {
		t.Errorf("a second stream: %s", second.Status)
	}
	m.rest.Close()
	if _, err := io.ReadAll(first.Body); err != nil {
		t.Errorf("the open stream ended with %v", err)
	}
}

func TestAReaderThatTakesNothingDoesNotHoldTheOthers(t *testing.T) {
	m := newMesh(t)
	job := running(t, m, 0)
	stuck := m.open(t, "/v1/jobs/"+job+"/events", nil) // never read
	defer stuck.Body.Close()
	big := eventstest.Batch("a1", 1, 400)
	for i := range big {
		big[i].Message = strings.Repeat("x", 20_000)
	}
	began := time.Now()
	for i := 0; i < len(big); i += 100 {
		if _, err := m.events.Append(t.Context(), job, events.Source(1), uint64(i+1), big[i:i+100]); err != nil {
			t.Fatal(err)
		}
	}
	n := 0
	if err := m.client(api.RoleViewer).Events(t.Context(), job, 0, false, func(e api.Event) error {
		if e.Level == api.LevelInfo {
			n++
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if n != len(big) || time.Since(began) > 5*time.Second {
		t.Errorf("another reader got %d events in %v", n, time.Since(began))
	}
}

func TestAReaderThatTakesNothingIsCutOff(t *testing.T) {
	m := newMesh(t, func(c *rest.Config) { c.StreamWriteTime = 100 * time.Millisecond })
	job := running(t, m, 0)
	stuck := m.open(t, "/v1/jobs/"+job+"/events", nil)
	m.wantMetrics(t, "api_event_streams 1")
	big := eventstest.Batch("a1", 1, 400)
	for i := range big {
		big[i].Message = strings.Repeat("x", 100_000) // 40 MB: more than sockets hold
	}
	for i := 0; i < len(big); i += 50 {
		if _, err := m.events.Append(t.Context(), job, events.Source(1), uint64(i+1), big[i:i+50]); err != nil {
			t.Fatal(err)
		}
	}
	deadline := time.Now().Add(10 * time.Second)
	for !m.hasMetric(t, "api_event_streams 0") {
		if time.Now().After(deadline) {
			t.Fatal("the stream is still open")
		}
		time.Sleep(20 * time.Millisecond)
	}
	if _, err := io.ReadAll(stuck.Body); err == nil {
		t.Error("the stream ended as if it were whole")
	}
}

func TestBadStreamRequests(t *testing.T) {
	m := newMesh(t)
	job := running(t, m, 0)
	for path, want := range map[string]int{
		"/v1/jobs/nothing/events":                      404,
		"/v1/jobs/" + job + "/events?after=-1":         422,
		"/v1/jobs/" + job + "/events?follow=perhaps":   422,
		"/v1/jobs/" + job + "/events?after=1e3":        422,
		"/v1/jobs/" + job + "/events?follow=0&after=9": 200,
	} {
		resp := m.open(t, path, nil)
		if resp.StatusCode != want {
			body := new(bytes.Buffer)
			_, _ = body.ReadFrom(io.LimitReader(resp.Body, 500))
			t.Errorf("%s: %s, want %d: %s", path, resp.Status, want, body)
		}
	}
}
