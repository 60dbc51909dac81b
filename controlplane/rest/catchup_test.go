package rest_test

import (
	"context"
	"net/http/httptest"
	"sync/atomic"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/consensus"
	"github.com/tunemesh/tunemesh/controlplane/dispatch"
	"github.com/tunemesh/tunemesh/controlplane/rest"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// newborn leads, and has applied nothing yet: neither tokens nor datasets.
type newborn struct {
	leads
	behind atomic.Bool
}

func (n *newborn) Leading(context.Context) error {
	if n.behind.Load() {
		return &consensus.NotLeaderError{}
	}
	return nil
}

// A server that was started again and leads at once does not say that a token is
// not valid, or a dataset not there, before it has applied what the mesh has.
func TestALeaderAnswersWhenItHasCaughtUp(t *testing.T) {
	m := newMesh(t)
	empty, err := state.New()
	if err != nil {
		t.Fatal(err)
	}
	raft := &newborn{}
	f := follow(t, m, raft)
	if resp := f.get(t, "/v1/datasets", nil); resp.StatusCode != 200 {
		t.Errorf("a leader that has caught up answers %s", resp.Status)
	}

	s, err := rest.New(rest.Config{Raft: raft, Store: empty, Events: m.events, Objects: m.store, Dispatch: dispatch.New(dispatch.Config{Store: empty})})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	server := httptest.NewServer(s.Handler())
	defer server.Close()
	f = &mesh{url: server.URL, rest: s, tokens: m.tokens}
	raft.behind.Store(true)
	var p api.Problem
	if resp := f.get(t, "/v1/datasets", &p); resp.StatusCode != 503 || p.Type != api.ProblemNotLeader {
		t.Errorf("a leader that could not catch up answers %s %+v", resp.Status, p)
	}
}
