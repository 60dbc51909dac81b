package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/consensus"
	"github.com/tunemesh/tunemesh/controlplane/rest"
)

// deposed is a server that believes that it leads and does not: cut off, or
// frozen for a while.
type deposed struct {
	rest.Raft
	cut  atomic.Bool
	sure atomic.Int32 // reads that it was sure to lead at
}

func (d *deposed) ConsistentRead(ctx context.Context) error {
	if d.cut.Load() {
		return &consensus.NotLeaderError{}
	}
	d.sure.Add(1)
	return d.Raft.ConsistentRead(ctx)
}

// begun waits until so many reads have been made.
func (d *deposed) begun(t *testing.T, reads int32) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); d.sure.Load() < reads; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d reads, want %d", d.sure.Load(), reads)
		}
	}
}

// Found by the chaos tests: a leader that was frozen told an agent that an
// attempt which its successor had placed was stale; the agent stopped it, threw
// its work away and began it again when the new leader named it. Only who surely
// leads may call a fence stale.
func TestADeposedLeaderCallsNoFenceStale(t *testing.T) {
	server := &deposed{}
	m := newMesh(t, func(c *rest.Config) { server.Raft, c.Raft = c.Raft, server })
	server.cut.Store(true)
	body, _ := json.Marshal(api.EventBatch{FirstSeq: 1, Events: []api.Event{}})
	resp := m.send(t, "POST", "/v1/attempts/999999/events", m.tokens[api.RoleNode], string(bytes.TrimSpace(body)))
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("an unknown fence: %s, want 503", resp.Status)
	}
}

// The same of heartbeats: the answer is no list of stale fences but "ask the
// leader".
func TestADeposedLeaderTellsNoHeartbeatOfStaleFences(t *testing.T) {
	server := &deposed{}
	m := newMesh(t, func(c *rest.Config) { server.Raft, c.Raft = c.Raft, server })
	join(t, m.client(api.RoleNode))
	body := `{"sent_at":"2026-11-24T12:00:00Z","fences":[999999],"digest":"d1","load":{},"version":"test"}`
	beat := func() *http.Response {
		resp := m.send(t, "POST", "/v1/nodes/"+nodeName+"/heartbeat", m.tokens[api.RoleNode], body)
		t.Cleanup(func() { resp.Body.Close() })
		return resp
	}
	var reply api.HeartbeatReply
	if resp := beat(); resp.StatusCode != http.StatusOK || json.NewDecoder(resp.Body).Decode(&reply) != nil || len(reply.Stale) != 1 {
		t.Errorf("who surely leads: %s, %+v; want the fence called stale", resp.Status, reply)
	}
	server.cut.Store(true)
	if resp := beat(); resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("who does not: %s, want 503", resp.Status)
	}
}

// And of the desired set, which makes an agent stop what is not in it: neither a
// poll that asks now nor one that has waited is answered by who may not lead.
func TestADeposedLeaderAnswersNoPoll(t *testing.T) {
	server := &deposed{}
	m := newMesh(t, func(c *rest.Config) { server.Raft, c.Raft = c.Raft, server })
	agent := m.client(api.RoleNode)
	join(t, agent)
	before := server.sure.Load()
	set, err := agent.Assignments(t.Context(), nodeName, 0, 0)
	perPoll := server.sure.Load() - before // before it waits
	if err != nil {
		t.Fatal(err)
	}
	path := "/v1/nodes/" + nodeName + "/assignments"
	waited := make(chan *http.Response, 1)
	go func() {
		resp := m.send(t, "GET", fmt.Sprintf("%s?index=%d&wait=2s", path, set.Index), m.tokens[api.RoleNode], "")
		resp.Body.Close()
		waited <- resp
	}()
	server.begun(t, before+2*perPoll)
	server.cut.Store(true)
	resp := m.send(t, "GET", path+"?index=7&wait=0s", m.tokens[api.RoleNode], "")
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a poll that asks now: %s, want 503", resp.Status)
	}
	if resp := <-waited; resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("a poll that has waited: %s, want 503", resp.Status)
	}
}
