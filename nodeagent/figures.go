package nodeagent

import (
	"os"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/nodeagent/cache"
)

// Figures are what an agent knows of itself, for metrics.
type Figures struct {
	NodeID string
	Load   api.NodeLoad
	// Running counts the attempts that are here and not yet reported, by the kind
	// of their stage.
	Running map[string]int
	// HeartbeatAge is the time since the last heartbeat that was acknowledged.
	HeartbeatAge time.Duration
	// SpoolBytes is what the attempts here have printed; SpoolPending what of it
	// the control plane has not acknowledged.
	SpoolBytes, SpoolPending int64
	SpoolLimit               int64 // 0: none
	Cache                    cache.Stats
	// GossipMembers counts whom this agent sees by gossip, by role; nil: no gossip.
	// The agent does not know it; who assembles the figures adds it.
	GossipMembers map[string]int
	// UploadBytes is what is still to be sent of files on their way to the object
	// store.
	UploadBytes int64
}

// Figures looks at the agent.
func (a *Agent) Figures() Figures {
	f := Figures{NodeID: a.id.NodeID, Load: a.sampler.load(), Running: map[string]int{}, HeartbeatAge: a.lease.age(), Cache: a.cache.Stats(), UploadBytes: a.toUpload.Load()}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, r := range a.runners {
		f.Running[r.as.Stage.Kind]++
		info, err := os.Stat(r.p.events())
		if err != nil {
			continue // nothing printed yet
		}
		f.SpoolBytes += info.Size()
		f.SpoolPending += max(0, info.Size()-r.ship.position().Offset)
	}
	return f
}
