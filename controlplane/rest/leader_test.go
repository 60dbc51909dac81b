package rest_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/controlplane/consensus"
	"github.com/tunemesh/tunemesh/controlplane/dispatch"
	"github.com/tunemesh/tunemesh/controlplane/rest"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// follower is Raft as a server sees it that does not lead. It shares the
// leader's state, as if it were always caught up.
type follower struct {
	leader atomic.Pointer[string]
	// fail is what Apply answers where it is asked all the same.
	fail error
}

func (f *follower) Apply(context.Context, state.Command) (state.Result, error) {
	if f.fail != nil {
		return state.Result{}, f.fail
	}
	return state.Result{}, &consensus.NotLeaderError{}
}
func (f *follower) ConsistentRead(context.Context) error    { return &consensus.NotLeaderError{} }
func (f *follower) WaitIndex(context.Context, uint64) error { return nil }
func (f *follower) IsLeader() bool                          { return false }
func (f *follower) LastContact() time.Time                  { return time.Time{} }
func (f *follower) LeaderHTTP() (string, bool) {
	url := f.leader.Load()
	if url == nil {
		return "", false
	}
	return *url, true
}

// follow starts a server that does not lead beside a mesh.
func follow(t *testing.T, m *mesh, raft rest.Raft) *mesh {
	t.Helper()
	store := m.node.Store()
	s, err := rest.New(rest.Config{
		Raft: raft, Store: store, Events: m.events, Objects: m.store, DefaultModel: modelName,
		Dispatch: dispatch.New(dispatch.Config{Store: store}), Version: api.Version{Version: "follower"},
	})
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(s.Handler())
	t.Cleanup(func() { s.Close(); server.Close() })
	return &mesh{url: server.URL, node: m.node, store: m.store, s3: m.s3, rest: s, events: m.events, tokens: m.tokens}
}

func TestAFollowerPassesRequestsOnToTheLeader(t *testing.T) {
	m := newMesh(t)
	raft := &follower{}
	raft.leader.Store(&m.url)
	f := follow(t, m, raft)
	c := f.client(api.RoleUser)
	d := upload(t, c, "t.csv", strings.Repeat("text,label\n", 100_000))
	job, err := c.SubmitJob(t.Context(), api.JobSpec{Dataset: d.ID, Pipeline: twoStages()})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := c.Job(t.Context(), job.ID); err != nil || got.ID != job.ID {
		t.Errorf("read through a follower: %+v, %v", got, err)
	}
	if v, err := c.Version(t.Context()); err != nil || v.Version != "follower" {
		t.Errorf("the version is of %+v, %v", v, err)
	}
	// Streams come through as they are written.
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	stop := errors.New("seen")
	if err := c.Events(ctx, job.ID, 0, true, func(e api.Event) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("a stream through a follower: %v", err)
	}
	agent := f.client(api.RoleNode)
	join(t, agent)
	if set := wantWork(t, agent, 0, 1); set.Attempts[0].JobID != job.ID {
		t.Errorf("the set is %+v", set)
	}
	resp := f.get(t, "/v1/jobs", nil)
	if n := len(resp.Header.Values("Tunemesh-Index")); n != 1 {
		t.Errorf("%d indexes in the header", n)
	}
}

func TestAStaleReadIsAnsweredByAnyServer(t *testing.T) {
	m := newMesh(t)
	f := follow(t, m, &follower{})
	for path, want := range map[string]int{"/v1/models?stale": 200, "/v1/models?stale=true": 200, "/v1/models": 503, "/v1/models?stale=false": 503, "/healthz": 200, "/readyz": 503, "/v1/version": 200} {
		resp := f.get(t, path, nil)
		if resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, resp.Status, want)
		}
		if want == 503 && resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s: no Retry-After", path)
		}
	}
}

func TestOneHopAndNoMore(t *testing.T) {
	m := newMesh(t)
	// Two servers that each take the other for the leader.
	a, b := &follower{}, &follower{}
	fa, fb := follow(t, m, a), follow(t, m, b)
	a.leader.Store(&fb.url)
	b.leader.Store(&fa.url)
	var p api.Problem
	resp := fa.do(t, "GET", "/v1/jobs", nil, &p)
	if resp.StatusCode != 503 || p.Type != api.ProblemNotLeader || p.Outcome != "" {
		t.Errorf("%s %+v", resp.Status, p)
	}
}

func TestALostLeaderLeavesTheOutcomeOpen(t *testing.T) {
	m := newMesh(t)
	// A leader that takes the request and dies, and one that cannot be reached.
	dying, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer dying.Close()
	go func() {
		for {
			conn, err := dying.Accept()
			if err != nil {
				return
			}
			_, _ = io.ReadFull(conn, make([]byte, 100))
			conn.Close()
		}
	}()
	raft := &follower{}
	f := follow(t, m, raft)
	for leader, outcome := range map[string]string{"http://" + dying.Addr().String(): "unknown", "http://127.0.0.1:1": ""} {
		raft.leader.Store(&leader)
		var p api.Problem
		resp := f.do(t, "POST", "/v1/jobs", []byte(`{"dataset":"x"}`), &p)
		if resp.StatusCode != 503 || p.Outcome != outcome || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %s %+v, want outcome %q", leader, resp.Status, p, outcome)
		}
	}
}

// leads is a server that leads, with an Apply that fails.
type leads struct{ follower }

func (l *leads) IsLeader() bool                       { return true }
func (l *leads) ConsistentRead(context.Context) error { return nil }

func TestWhatAFailedWriteMeans(t *testing.T) {
	m := newMesh(t)
	d := upload(t, m.client(api.RoleUser), "t.csv", "text,label\n")
	for _, c := range []struct {
		err     error
		status  int
		outcome string
		kind    string
	}{
		{consensus.ErrUnknownOutcome, 503, "unknown", api.ProblemNotLeader},
		{&consensus.NotLeaderError{}, 503, "", api.ProblemNotLeader},
		{consensus.ErrOverloaded, 503, "", api.ProblemOverloaded},
		{consensus.ErrDiskFull, 503, "", api.ProblemOverloaded},
		{&state.Error{Sentinel: state.ErrConflict, Message: "m"}, 409, "", api.ProblemConflict},
		{&state.Error{Sentinel: state.ErrNotFound, Message: "m"}, 404, "", api.ProblemNotFound},
		{&state.Error{Sentinel: state.ErrInvalid, Field: "f", Message: "m"}, 422, "", api.ProblemInvalid},
		{errors.New("surprise"), 500, "", ""},
	} {
		f := follow(t, m, &leads{follower{fail: fmt.Errorf("wrapped: %w", c.err)}})
		var p api.Problem
		resp := f.do(t, "POST", "/v1/jobs", []byte(fmt.Sprintf(`{"dataset":%q}`, d.ID)), &p)
		if resp.StatusCode != c.status || p.Outcome != c.outcome || p.Type != c.kind {
			t.Errorf("%v: %s %+v", c.err, resp.Status, p)
		}
		if c.status == 500 && strings.Contains(p.Error(), "surprise") {
			t.Errorf("the answer shows what is inside: %v", &p)
		}
	}
}

func TestAnAgentIsToldToComeBackWhileNobodyLeads(t *testing.T) {
	m := newMesh(t)
	join(t, m.client(api.RoleNode))
	// This server leads, but its loop does not run (yet).
	f := follow(t, m, &leads{})
	for path, body := range map[string]string{"/v1/nodes/" + nodeName + "/heartbeat": "{}"} {
		var p api.Problem
		resp := f.do(t, "POST", path, []byte(body), &p)
		if resp.StatusCode != 503 || p.Type != api.ProblemNotLeader || resp.Header.Get("Retry-After") == "" {
			t.Errorf("%s: %s %+v", path, resp.Status, p)
		}
	}
}

func TestTheClientGoesToAnotherServer(t *testing.T) {
	m := newMesh(t)
	var hits atomic.Int32
	sick := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		hits.Add(1)
		w.WriteHeader(503)
		_ = json.NewEncoder(w).Encode(api.Problem{Title: "Service Unavailable", Status: 503, Type: api.ProblemNotLeader})
	}))
	defer sick.Close()
	c := client.New(client.Config{Servers: []string{"http://127.0.0.1:1", sick.URL, m.url}, Token: m.tokens[api.RoleViewer], HTTP: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
	for range 3 {
		if _, err := c.Models(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if hits.Load() != 1 {
		t.Errorf("the sick server was asked %d times", hits.Load())
	}
}
