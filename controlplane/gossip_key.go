package controlplane

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"slices"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/dispatch"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// The gossip's key is exchanged in three steps that the leader puts into Raft:
// all take the new one, all send with it, all forget the old one. Between two
// steps it leaves the agents time to hear of the one before, by their heartbeats.
const (
	// stepBeats are the heartbeats that each node can send between two steps.
	stepBeats = 3
	// keyPoll is how often a server looks whether the keys have changed.
	keyPoll = 500 * time.Millisecond
)

// gossipKeys are the keys that count, the one to send with first: those in Raft,
// or before there are any this server's own.
func (s *Server) gossipKeys() [][]byte {
	if s.opened.Load() {
		if keys := s.raft.Store().GossipKeys().All(); len(keys) > 0 {
			return keys
		}
	}
	return [][]byte{s.creds.gossip}
}

// followGossipKeys gives this server's member the keys as they change, and keeps
// the one to send with for its next start.
func (s *Server) followGossipKeys(life context.Context) {
	have := [][]byte{s.creds.gossip}
	for pause(life, keyPoll) == nil {
		want := s.gossipKeys()
		if slices.EqualFunc(have, want, slices.Equal[[]byte]) {
			continue
		}
		if err := s.gossip.SetKeys(want); err != nil {
			s.config.Log.Warn("the gossip's keys cannot be changed", "err", err)
			continue
		}
		if err := writePrivate(s.creds.path("gossip.key"), hex.EncodeToString(want[0])); err != nil {
			s.config.Log.Warn("the gossip's key cannot be kept; this server learns it again at its next start", "err", err)
		}
		have = want
		s.config.Log.Info("the gossip's keys have changed", "keys", len(want), "digest", digestOfKey(want[0]))
	}
}

func digestOfKey(key []byte) string {
	if len(key) == 0 {
		return ""
	}
	return api.GossipKeysDigest([][]byte{key})
}

// GossipKey implements rest.Cluster.
func (c *cluster) GossipKey() api.GossipKeyStatus {
	k := c.s.raft.Store().GossipKeys()
	return api.GossipKeyStatus{Primary: digestOfKey(k.Primary), Coming: digestOfKey(k.Coming), Going: digestOfKey(k.Going)}
}

// RotateGossipKey implements rest.Cluster. The steps after the first are the
// leader's, whoever leads by then.
func (c *cluster) RotateGossipKey(ctx context.Context) (api.GossipKeyStatus, error) {
	if !c.s.raft.Store().CanChangeGossipKey() {
		return api.GossipKeyStatus{}, conflict("let all servers run this version first: tunemesh cluster peers", "a server of the cluster does not know how to change the gossip's key")
	}
	if now := c.GossipKey(); !now.AtRest() {
		return now, nil
	}
	key := make([]byte, 32)
	_, _ = rand.Read(key) // never fails, by its documentation
	if _, err := c.s.raft.Apply(ctx, state.ChangeGossipKey{Step: state.AddKey, Key: key}); err != nil {
		return api.GossipKeyStatus{}, err
	}
	return c.GossipKey(), nil
}

// keySteps goes on with an exchange that is under way. A new leader waits anew.
type keySteps struct {
	seen  [][]byte
	since time.Time
}

// next does the next step once everybody can have heard of the one before.
func (k *keySteps) next(term context.Context, s *Server, now time.Time) error {
	keys := s.raft.Store().GossipKeys()
	if all := keys.All(); !slices.EqualFunc(k.seen, all, slices.Equal[[]byte]) {
		k.seen, k.since = all, now
	}
	if now.Sub(k.since) < stepBeats*dispatch.Interval(len(s.raft.Store().Nodes())) {
		return nil
	}
	step := state.ChangeGossipKey{}
	switch {
	case len(keys.Coming) > 0:
		step = state.ChangeGossipKey{Step: state.UseKey, Key: keys.Coming}
	case len(keys.Going) > 0:
		step = state.ChangeGossipKey{Step: state.RemoveKey, Key: keys.Going}
	default:
		return nil
	}
	_, err := s.raft.Apply(term, step)
	return err
}
