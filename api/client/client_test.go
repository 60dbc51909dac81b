package client_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// script answers requests one after the other, the last for ever.
type script struct {
	mu       sync.Mutex
	answers  []func(http.ResponseWriter, *http.Request)
	requests []string
	bodies   []string
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	answer := s.answers[min(len(s.requests), len(s.answers)-1)]
	s.requests = append(s.requests, r.Method+" "+r.URL.Path)
	s.bodies = append(s.bodies, string(body))
	s.mu.Unlock()
	answer(w, r)
}

func (s *script) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.requests)
}

func refuse(status int, p api.Problem) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) {
		p.Title, p.Status = http.StatusText(status), status
		w.Header().Set("Content-Type", "application/problem+json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(p)
	}
}

func answer(v any) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(v) }
}

func hangUp(w http.ResponseWriter, _ *http.Request) { panic(http.ErrAbortHandler) }

func start(t *testing.T, answers ...func(http.ResponseWriter, *http.Request)) (*client.Client, *script) {
	t.Helper()
	s := &script{answers: answers}
	server := httptest.NewServer(s)
	t.Cleanup(server.Close)
	return client.New(client.Config{Servers: []string{server.URL}, Token: "tm_a_b", HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}}), s
}

func TestWhatIsTriedAgain(t *testing.T) {
	unknown := refuse(503, api.Problem{Outcome: "unknown"})
	busy := refuse(503, api.Problem{Type: api.ProblemNotLeader})
	ok := answer(map[string]any{})
	submit := func(c *client.Client) error { _, err := c.SubmitJob(t.Context(), api.JobSpec{}); return err }
	resume := func(c *client.Client) error { _, err := c.ResumeJob(t.Context(), "j"); return err }
	beat := func(c *client.Client) error { _, err := c.Heartbeat(t.Context(), "n", api.Heartbeat{}); return err }
	report := func(c *client.Client) error { return c.ReportAttempt(t.Context(), 1, api.AttemptReport{}) }
	for _, tc := range []struct {
		name    string
		call    func(*client.Client) error
		answers []func(http.ResponseWriter, *http.Request)
		tries   int
		works   bool
	}{
		{"submit after an unknown outcome", submit, []func(http.ResponseWriter, *http.Request){unknown, hangUp, ok}, 3, true},
		{"report after a lost connection", report, []func(http.ResponseWriter, *http.Request){hangUp, ok}, 2, true},
		{"submit that is refused", submit, []func(http.ResponseWriter, *http.Request){refuse(422, api.Problem{})}, 1, false},
		{"report of a stale fence", report, []func(http.ResponseWriter, *http.Request){refuse(410, api.Problem{Type: api.ProblemStaleFence})}, 1, false},
		{"resume while there is no leader", resume, []func(http.ResponseWriter, *http.Request){busy, ok}, 2, true},
		{"resume after an unknown outcome", resume, []func(http.ResponseWriter, *http.Request){unknown, ok}, 1, false},
		{"resume after a lost connection", resume, []func(http.ResponseWriter, *http.Request){hangUp, ok}, 1, false},
		{"a heartbeat, never", beat, []func(http.ResponseWriter, *http.Request){busy, ok}, 1, false},
		{"an answer that is no JSON", submit, []func(http.ResponseWriter, *http.Request){func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>")) }}, 1, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, s := start(t, tc.answers...)
			err := tc.call(c)
			if (err == nil) != tc.works || s.count() != tc.tries {
				t.Errorf("%d tries, %v; want %d", s.count(), err, tc.tries)
			}
		})
	}
}

func TestASubmitKeepsItsIDOverTries(t *testing.T) {
	c, s := start(t, hangUp, answer(map[string]any{}))
	if _, err := c.SubmitJob(t.Context(), api.JobSpec{Name: "x"}); err != nil {
		t.Fatal(err)
	}
	var spec api.JobSpec
	if err := json.Unmarshal([]byte(s.bodies[0]), &spec); err != nil || len(spec.ID) != 26 || s.bodies[0] != s.bodies[1] {
		t.Errorf("bodies %q", s.bodies)
	}
}

func TestErrorsAreProblems(t *testing.T) {
	c, _ := start(t, refuse(422, api.Problem{Detail: "no", Errors: []api.FieldError{{Field: "dataset", Message: "is required"}}}))
	_, err := c.SubmitJob(t.Context(), api.JobSpec{})
	var p *api.Problem
	if !errors.As(err, &p) || p.Status != 422 || p.Errors[0].Field != "dataset" {
		t.Errorf("got %v", err)
	}
	c, _ = start(t, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "a proxy says no", http.StatusForbidden) })
	if _, err = c.Jobs(t.Context()); !errors.As(err, &p) || p.Status != 403 || p.Detail != "a proxy says no" {
		t.Errorf("an error without a document: %v", err)
	}
	if _, err := client.New(client.Config{}).Jobs(t.Context()); err == nil || !strings.Contains(err.Error(), "no server") {
		t.Errorf("without a server: %v", err)
	}
}

func TestListsAreReadToTheirEnd(t *testing.T) {
	c, s := start(t, answer(map[string]any{"items": []api.Job{{JobSpec: api.JobSpec{ID: "b"}}}, "next": "b"}), answer(map[string]any{"items": []api.Job{{JobSpec: api.JobSpec{ID: "a"}}}}))
	jobs, err := c.Jobs(t.Context())
	if err != nil || len(jobs) != 2 || jobs[1].ID != "a" || s.count() != 2 {
		t.Errorf("%+v, %v after %d requests", jobs, err, s.count())
	}
}

func TestAnUploadIsRepeatedFromItsStartOrNotAtAll(t *testing.T) {
	c, s := start(t, refuse(503, api.Problem{}), answer(api.Dataset{ID: "ds"}))
	r := strings.NewReader("skipped|body")
	_, _ = io.CopyN(io.Discard, r, 8)
	if d, err := c.UploadDataset(t.Context(), "x.csv", r, 4); err != nil || d.ID != "ds" || s.bodies[1] != "body" {
		t.Errorf("%+v, %v, bodies %q", d, err, s.bodies)
	}
	c, s = start(t, refuse(503, api.Problem{}))
	if _, err := c.UploadDataset(t.Context(), "x.csv", io.MultiReader(strings.NewReader("body")), -1); err == nil || s.count() != 1 {
		t.Errorf("a stream was sent %d times: %v", s.count(), err)
	}
}

// A router that was switched off and on has forgotten every connection: who noticed
// it of one uses no other of that time.
func TestAfterATimeoutNoOldConnectionIsUsed(t *testing.T) {
	var (
		forgotten atomic.Bool
		both      sync.WaitGroup
		done      = make(chan struct{})
	)
	type old struct{}
	both.Add(2)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Context().Value(old{}) == true {
			if forgotten.Load() {
				<-done
				return
			}
			both.Done()
			both.Wait() // so that the two calls have a connection each
		}
		answer(map[string]any{})(w, r)
	}))
	server.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, old{}, !forgotten.Load())
	}
	server.Start()
	t.Cleanup(server.Close)
	t.Cleanup(func() { close(done) })
	c := client.New(client.Config{Servers: []string{server.URL}, Token: "tm_a_b", Retries: 1, CallTimeout: time.Second})
	t.Cleanup(c.Close)
	var calls sync.WaitGroup
	for range 2 {
		calls.Go(func() {
			if _, err := c.Job(t.Context(), "j"); err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	forgotten.Store(true)
	if _, err := c.Job(t.Context(), "j"); err != nil {
		t.Errorf("the second try went out on another connection of before: %v", err)
	}
}

func TestACallEndsWithItsContext(t *testing.T) {
	c, _ := start(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := c.Jobs(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) > 5*time.Second {
		t.Errorf("%v after %v", err, time.Since(began))
	}
}

func TestADownloadIsChecked(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("hello")) }))
	defer server.Close()
	c := client.New(client.Config{Servers: []string{server.URL}, Retries: 1, HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
	const sum = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	a := api.Artifact{Name: "a", Size: 5, SHA256: sum, URL: server.URL + "/a?X-Amz-Signature=secret"}
	var got bytes.Buffer
	if err := c.Download(t.Context(), a, &got); err != nil || got.String() != "hello" {
		t.Errorf("%q, %v", got.String(), err)
	}
	for what, bad := range map[string]api.Artifact{
		"size": {Name: "a", Size: 6, SHA256: sum, URL: a.URL},
		"hash": {Name: "a", Size: 5, SHA256: strings.Repeat("0", 64), URL: a.URL},
		"host": {Name: "a", Size: 5, URL: "http://127.0.0.1:1/a?X-Amz-Signature=secret"},
	} {
		err := c.Download(t.Context(), bad, io.Discard)
		if err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

// TestTheStreamIsReadAsTheStandardSays covers what servers and proxies in
// between may do to a stream of server-sent events.
func TestTheStreamIsReadAsTheStandardSays(t *testing.T) {
	var served atomic.Int32
	stream := func(text string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			served.Add(1)
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, text)
		}
	}
	c, s := start(t,
		stream(":\n\nid: 1\ndata: {\"seq\":1,\"message\":\"a\"}\n\n"+"data: {\"seq\":1,\"message\":\"again\"}\n\n"+"id:2\ndata:{\"seq\":2,\ndata:\"message\":\"b\"}\n\nid: 3\ndata: {\"se"),
		hangUp,
		refuse(503, api.Problem{}),
		stream("event: later-kind\ndata: x\n\nid: 3\r\ndata: {\"seq\":3,\"message\":\"c\"}\r\n\r\nevent: end\ndata: {}\n\ndata: {\"seq\":4}\n\n"),
	)
	var got []string
	err := c.Events(t.Context(), "j", 0, true, func(e api.Event) error {
		got = append(got, fmt.Sprintf("%d%s", e.Seq, e.Message))
		return nil
	})
	if err != nil || strings.Join(got, " ") != "1a 2b 3c" || s.count() != 4 {
		t.Errorf("got %v, %v after %d requests", got, err, s.count())
	}
}

func TestTheCallersErrorEndsTheStream(t *testing.T) {
	c, s := start(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "data: {\"seq\":1}\n\n") })
	stop := errors.New("enough")
	if err := c.Events(t.Context(), "j", 0, true, func(api.Event) error { return stop }); !errors.Is(err, stop) || s.count() != 1 {
		t.Errorf("%v after %d requests", err, s.count())
	}
	c, s = start(t, refuse(404, api.Problem{Type: api.ProblemNotFound}))
	if err := c.Events(t.Context(), "j", 0, true, func(api.Event) error { return nil }); !client.IsNotFound(err) || s.count() != 1 {
		t.Errorf("an unknown job: %v after %d requests", err, s.count())
	}
}
