package rest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/consensus"
	"github.com/tunemesh/tunemesh/controlplane/rest"
)

// deposed is a server that believes that it leads and does not: cut off, or
// frozen for a while.
type deposed struct {
	rest.Raft
	cut atomic.Bool
}

func (d *deposed) ConsistentRead(ctx context.Context) error {
	if d.cut.Load() {
		return &consensus.NotLeaderError{}
	}
	return d.Raft.ConsistentRead(ctx)
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
