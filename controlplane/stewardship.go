package controlplane

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// steward does, while this server leads, what the cluster needs of its leader:
// it looks at the other servers, makes nonvoters that have caught up voters,
// raises the protocol version when all speak it, and goes on with an exchange of
// the gossip's key.
func (c *cluster) steward(term context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	var keys keySteps
	for {
		c.lookAround(term)
		c.promote(term)
		if err := c.raiseVersion(term); err != nil && term.Err() == nil {
			c.s.config.Log.Debug("the protocol version stays", "err", err)
		}
		c.forgetGone(term)
		if err := keys.next(term, c.s, time.Now()); err != nil && term.Err() == nil {
			c.s.config.Log.Warn("the gossip's key waits for its next step", "err", err)
		}
		if !c.s.prepared.Load() && term.Err() == nil {
			if err := c.s.prepareMesh(term); err == nil {
				c.s.prepared.Store(true)
			}
		}
		select {
		case <-term.Done():
			return
		case <-tick.C:
		}
	}
}

func (c *cluster) lookAround(term context.Context) {
	committed := c.s.raft.Committed()
	var looking sync.WaitGroup
	members := c.s.raft.Members()
	fresh := make(map[string]sighting, len(members))
	var mu sync.Mutex
	for _, m := range members {
		known, err := c.s.raft.Store().Server(m.ID)
		if m.ID == c.s.id || err != nil || known.HTTPAddress == "" {
			continue
		}
		looking.Go(func() {
			hello, err := c.look(term, known.HTTPAddress)
			now := sighting{reachable: err == nil && hello.ID == m.ID, applied: hello.Applied}
			c.mu.Lock()
			before := c.seen[m.ID]
			c.mu.Unlock()
			if now.reachable && now.applied+caughtUp >= committed {
				now.even = before.even + 1
			}
			mu.Lock()
			defer mu.Unlock()
			fresh[m.ID] = now
		})
	}
	looking.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = fresh
}

func (c *cluster) promote(term context.Context) {
	for _, m := range c.s.raft.Members() {
		c.mu.Lock()
		even := c.seen[m.ID].even
		c.mu.Unlock()
		if m.Voter || even < evenLooks {
			continue
		}
		c.change.Lock()
		known, err := c.s.raft.Store().Server(m.ID)
		if err == nil {
			err = c.s.raft.AddVoter(term, known)
		}
		c.change.Unlock()
		if err != nil {
			c.s.config.Log.Warn("a server that has caught up cannot be made a voter", "server", m.ID, "err", err)
			continue
		}
		c.s.config.Log.Info("a server has caught up and votes now", "server", m.ID, "name", known.Name)
	}
}

// raiseVersion lets commands be proposed that all members understand.
func (c *cluster) raiseVersion(ctx context.Context) error {
	lowest := api.ProtocolVersion
	for _, m := range c.s.raft.Members() {
		if m.ID == c.s.id {
			continue
		}
		known, err := c.s.raft.Store().Server(m.ID)
		if err != nil {
			return err // it has not said yet what it speaks
		}
		lowest = min(lowest, max(1, known.Protocol))
	}
	if lowest <= c.s.raft.Store().MinVersion() {
		return nil
	}
	_, err := c.s.raft.Apply(ctx, state.SetMinVersion{Version: lowest})
	return err
}

// forgetGone removes the addresses of servers that are no members any more: a
// leader that left could not remove its own.
func (c *cluster) forgetGone(term context.Context) {
	c.change.Lock()
	defer c.change.Unlock()
	members := map[string]bool{}
	for _, m := range c.s.raft.Members() {
		members[m.ID] = true
	}
	for _, row := range c.s.raft.Store().Servers() {
		if !members[row.ID] && len(members) > 0 {
			if _, err := c.s.raft.Apply(term, state.RemoveServer{ID: row.ID}); err != nil {
				return
			}
		}
	}
}

// recordKeyring puts the keyring into Raft, where later servers find it.
func (s *Server) recordKeyring(ctx context.Context) error {
	if _, err := s.raft.Store().Keyring(); err == nil {
		return nil
	}
	if s.creds.ring == nil {
		return errors.New("controlplane: no server with the cluster secret has led yet")
	}
	r := s.creds.ring
	_, err := s.raft.Apply(ctx, state.SetKeyring{Keyring: state.Keyring{CACert: r.CACert, CAKey: r.CAKey, GossipKey: r.Gossip, PeerSecret: r.Peer}})
	return err
}

// announce tells the leader of this server until it is a member, and again
// whenever its addresses may have changed: at every start.
func (s *Server) announce(ctx context.Context, hadState bool) error {
	for n := 0; ; n++ {
		err := s.announceOnce(ctx, hadState)
		if err == nil {
			return nil
		}
		var p *api.Problem
		if errors.As(err, &p) && p.Status == http.StatusConflict {
			return err
		}
		if n == 10 {
			s.config.Log.Warn("the cluster does not take this server yet; trying again", "err", err)
		}
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return err
		}
	}
}

func (s *Server) announceOnce(ctx context.Context, hadState bool) error {
	request := api.JoinRequest{Server: s.self(), HasState: hadState}
	if s.raft.IsLeader() {
		return s.cluster.Join(ctx, request)
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	var addresses []string
	if leader, ok := s.raft.LeaderHTTP(); ok {
		addresses = append(addresses, leader)
	}
	for _, other := range s.raft.Store().Servers() {
		if other.ID != s.id && other.HTTPAddress != "" {
			addresses = append(addresses, other.HTTPAddress)
		}
	}
	addresses = append(addresses, s.config.Join...)
	err := errors.New("controlplane: no other server is known: give --join")
	for _, address := range addresses {
		if s.peers.base(address) == s.url {
			continue
		}
		if err = s.peers.call(ctx, http.MethodPost, address, "/v1/cluster/join", request, nil); err == nil {
			return nil
		}
		var p *api.Problem
		if errors.As(err, &p) && p.Status == http.StatusConflict {
			return err
		}
	}
	return err
}
