package controlplane

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/consensus"
	"github.com/tunemesh/tunemesh/controlplane/rest"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/controlplane/trust"
)

// cluster is what this server knows of the others, and does with them while it
// leads. It is what rest offers under /v1/cluster.
type cluster struct {
	s *Server
	// change is held while the membership changes.
	change sync.Mutex

	mu   sync.Mutex
	seen map[string]sighting // by id, what the leader saw last
}

var _ rest.Cluster = (*cluster)(nil)

type sighting struct {
	reachable bool
	applied   uint64
	// even counts looks in a row at which a nonvoter had caught up.
	even int
}

const (
	// lookEvery is how often the leader looks at the others.
	lookEvery = time.Second
	// lookTime bounds one look.
	lookTime = 2 * time.Second
	// caughtUp is how many entries behind the leader a server counts as caught up.
	caughtUp = 200
	// evenLooks in a row make a nonvoter a voter.
	evenLooks = 2
)

func conflict(hint, format string, args ...any) error {
	return &api.Problem{Type: api.ProblemConflict, Status: http.StatusConflict, Title: http.StatusText(http.StatusConflict), Detail: fmt.Sprintf(format, args...), Hint: hint}
}

// self is what this server tells of itself.
func (s *Server) self() api.Server {
	return api.Server{ID: s.id, Name: s.config.Name, RaftAddress: s.raftAddress, URL: s.url, GossipAddress: s.gossipAddress,
		Version: s.config.Version.Version, Protocol: api.ProtocolVersion}
}

// Hello answers another server's.
func (c *cluster) Hello(api.ServerHello) api.HelloReply {
	return api.HelloReply{ServerHello: api.ServerHello{Server: c.s.self(), HasState: true, Applied: c.s.raft.Applied()}}
}

// Agree refuses: this server has a cluster.
func (c *cluster) Agree(api.FoundingRequest) error {
	return conflict("", "this server has a Raft log: it belongs to a cluster")
}

// IsPeer says whether a caller knows the secret of the servers.
func (c *cluster) IsPeer(secret string) bool { return c.s.isPeer(secret) }

// Pin is what tokens carry of the CA.
func (c *cluster) Pin() []byte { return c.s.creds.pin() }

// find returns a member by its id, or by its name where only one has it.
func (c *cluster) find(who string) (state.Server, error) {
	var named []state.Server
	for _, m := range c.s.raft.Members() {
		known, err := c.s.raft.Store().Server(m.ID)
		if err != nil {
			known = state.Server{ID: m.ID, RaftAddress: m.Address}
		}
		if m.ID == who {
			return known, nil
		}
		if known.Name == who && who != "" {
			named = append(named, known)
		}
	}
	switch len(named) {
	case 1:
		return named[0], nil
	case 0:
		return state.Server{}, &api.Problem{Type: api.ProblemNotFound, Status: http.StatusNotFound, Title: "Not Found", Detail: fmt.Sprintf("there is no server %q", who), Hint: "tunemesh cluster peers lists them"}
	}
	return state.Server{}, conflict("name it by its id", "%d servers are called %q", len(named), who)
}

// Peers lists the members as this server, the leader, sees them.
func (c *cluster) Peers(context.Context) []api.Peer {
	c.mu.Lock()
	defer c.mu.Unlock()
	leader, mine := c.s.raft.LeaderID(), c.s.raft.Applied()
	var out []api.Peer
	for _, m := range c.s.raft.Members() {
		p := api.Peer{Server: api.Server{ID: m.ID, RaftAddress: m.Address}, Suffrage: api.Nonvoter, Leader: m.ID == leader}
		if known, err := c.s.raft.Store().Server(m.ID); err == nil {
			p.Server = api.Server{ID: m.ID, Name: known.Name, RaftAddress: m.Address, URL: known.HTTPAddress, GossipAddress: known.GossipAddress, Version: known.Version, Protocol: known.Protocol}
		}
		if m.Voter {
			p.Suffrage = api.Voter
		}
		seen := c.seen[m.ID]
		p.Reachable, p.Applied = seen.reachable, seen.applied
		if m.ID == c.s.id {
			p.Reachable, p.Applied = true, mine
		}
		if p.Reachable && p.Applied < mine {
			p.Lag = mine - p.Applied
		}
		out = append(out, p)
	}
	return out
}

// Join makes a server a member, first as a nonvoter, or renews its addresses. One
// that comes under the name of a member that is gone takes that member's place:
// so a server whose disk was lost comes back.
func (c *cluster) Join(ctx context.Context, r api.JoinRequest) error {
	if r.ID == "" || r.Name == "" || r.RaftAddress == "" || r.URL == "" {
		return &api.Problem{Type: api.ProblemInvalid, Status: http.StatusUnprocessableEntity, Title: "Unprocessable Entity", Detail: "a server needs id, name, raft_address and url"}
	}
	c.change.Lock()
	defer c.change.Unlock()
	row := state.Server{ID: r.ID, Name: r.Name, RaftAddress: r.RaftAddress, HTTPAddress: r.URL, GossipAddress: r.GossipAddress, Version: r.Version, Protocol: r.Protocol}
	members := c.s.raft.Members()
	for _, m := range members {
		if m.ID == r.ID && m.Address == r.RaftAddress {
			_, err := c.s.raft.Apply(ctx, state.UpsertServer{Server: row})
			return err
		}
		if m.ID == r.ID {
			c.s.config.Log.Info("a server has another address", "server", r.Name, "from", m.Address, "to", r.RaftAddress)
			return c.s.raft.AddNonvoter(ctx, row) // a voter stays one
		}
	}
	if r.HasState {
		return conflict("to let it join as a new server, remove the folder raft and the file server.id in its data folder", "server %s (%s) is no member of this cluster: it was removed", r.Name, r.ID)
	}
	for _, m := range members {
		old, err := c.s.raft.Store().Server(m.ID)
		if err != nil || old.Name != r.Name && m.Address != r.RaftAddress {
			continue
		}
		if hello, err := c.look(ctx, old.HTTPAddress); err == nil && hello.ID == old.ID {
			return conflict("give the new one another --name", "a server called %s is alive with another id, at %s", old.Name, old.HTTPAddress)
		}
		c.s.config.Log.Info("a server takes the place of one that is gone", "name", r.Name, "gone", old.ID, "new", r.ID)
		if err := c.s.raft.RemoveServer(ctx, old.ID); err != nil {
			return err
		}
	}
	c.s.config.Log.Info("a server joins", "name", r.Name, "server", r.ID, "raft", r.RaftAddress)
	return c.s.raft.AddNonvoter(ctx, row)
}

// look asks a server how it is.
func (c *cluster) look(ctx context.Context, url string) (api.HelloReply, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var reply api.HelloReply
	err := c.s.peers.call(ctx, http.MethodPost, url, "/v1/cluster/hello", api.ServerHello{Server: c.s.self(), HasState: true}, &reply)
	return reply, err
}

// Admit signs a server's certificate for its join token.
func (c *cluster) Admit(ctx context.Context, token api.Token, r api.AdmitRequest) (api.AdmitReply, error) {
	ring, err := c.s.keyring()
	if err != nil {
		return api.AdmitReply{}, err
	}
	out := api.AdmitReply{Secret: ring.Peer, GossipKey: c.s.gossipKeys()[0]}
	if c.s.creds.identity != nil {
		if out.Certificate, err = ring.Sign(r.CSR, r.ID, time.Now()); err != nil {
			return out, &api.Problem{Type: api.ProblemInvalid, Status: http.StatusUnprocessableEntity, Title: "Unprocessable Entity", Detail: err.Error()}
		}
		out.CA = ring.CACert
	}
	if _, err := c.s.raft.Apply(ctx, state.UseToken{ID: token.ID, By: r.ID, At: time.Now().UTC()}); err != nil {
		return api.AdmitReply{}, err
	}
	return out, nil
}

// Depart removes a server that asks for it; from the leader it takes over first.
func (c *cluster) Depart(ctx context.Context, id string) error {
	c.change.Lock()
	defer c.change.Unlock()
	for _, m := range c.s.raft.Members() {
		if m.ID == id {
			return c.remove(ctx, id)
		}
	}
	return nil
}

// Remove removes a server where enough stay, or by force.
func (c *cluster) Remove(ctx context.Context, who string, force bool) error {
	c.change.Lock()
	defer c.change.Unlock()
	target, err := c.find(who)
	if err != nil {
		return err
	}
	voters, up, isVoter := 0, 0, false
	var down []string
	for _, m := range c.s.raft.Members() {
		if m.ID == target.ID {
			isVoter = m.Voter
			continue
		}
		if !m.Voter {
			continue
		}
		voters++
		known, _ := c.s.raft.Store().Server(m.ID)
		if m.ID == c.s.id {
			up++
		} else if hello, err := c.look(ctx, known.HTTPAddress); err == nil && hello.ID == m.ID {
			up++
		} else {
			down = append(down, known.Name)
		}
	}
	if isVoter && voters == 0 {
		return conflict("", "%s is the only voter: the cluster ends with it, there is nothing to remove it from", target.Name)
	}
	if isVoter && up < voters/2+1 && !force {
		return conflict("start those first, or insist with --force", "of the %d voters that would stay only %d can be reached (not: %s), which is no quorum: the cluster would stand still", voters, up, strings.Join(down, ", "))
	}
	return c.remove(ctx, target.ID)
}

func (c *cluster) remove(ctx context.Context, id string) error {
	if id != c.s.id {
		c.s.config.Log.Info("a server is removed", "server", id)
		return c.s.raft.RemoveServer(ctx, id)
	}
	// A leader removes itself best as a follower: the next one does it when the
	// request comes again.
	if err := c.s.raft.TransferLeadership(ctx, ""); err != nil {
		return err
	}
	return &consensus.NotLeaderError{}
}

// Transfer hands over.
func (c *cluster) Transfer(ctx context.Context, to string) error {
	id := ""
	if to != "" {
		target, err := c.find(to)
		if err != nil {
			return err
		}
		if target.ID == c.s.id {
			return nil
		}
		for _, m := range c.s.raft.Members() {
			if m.ID == target.ID && !m.Voter {
				return conflict("wait until it has caught up: tunemesh cluster peers", "%s does not vote yet", to)
			}
		}
		id = target.ID
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := c.s.raft.TransferLeadership(ctx, id); err != nil {
		if errors.Is(err, consensus.ErrNotLeader) {
			return err
		}
		return conflict("is another voter up? tunemesh cluster peers", "leadership could not be handed over: %v", err)
	}
	return nil
}

// Leave takes this server out of the cluster; its process then ends.
func (c *cluster) Leave(ctx context.Context) error {
	if err := c.s.Leave(ctx); err != nil {
		return err
	}
	if f := c.s.config.OnLeft; f != nil {
		f()
	}
	return nil
}

// Leave takes this server out of the cluster. What it keeps of the cluster is put
// aside when it is closed, so that it can join again as a new one.
func (s *Server) Leave(ctx context.Context) error {
	if s.left.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	voters, member := 0, false
	for _, m := range s.raft.Members() {
		member = member || m.ID == s.id
		if m.Voter && m.ID != s.id {
			voters++
		}
	}
	if member && voters == 0 {
		return conflict("stop it instead", "this server is the only voter: the cluster ends with it")
	}
	request := map[string]string{"id": s.id}
	var err error
	for {
		if s.raft.IsLeader() {
			err = s.raft.TransferLeadership(ctx, "")
		} else {
			// To the others, not to this server's own leader proxy: it may be the one
			// that does not know who leads.
			for _, other := range s.raft.Store().Servers() {
				if other.ID == s.id || other.HTTPAddress == "" {
					continue
				}
				if err = s.peers.call(ctx, http.MethodPost, other.HTTPAddress, "/v1/cluster/depart", request, nil); err == nil {
					s.left.Store(true)
					s.config.Log.Info("this server has left the cluster")
					return nil
				}
			}
		}
		if pause(ctx, 300*time.Millisecond) != nil {
			return fmt.Errorf("controlplane: leave the cluster: %w", errors.Join(err, ctx.Err()))
		}
	}
}

// keyring is the cluster's, from Raft or derived from the secret.
func (s *Server) keyring() (trust.Keyring, error) {
	if k, err := s.raft.Store().Keyring(); err == nil {
		return trust.OpenKeyring(k.CACert, k.CAKey, k.GossipKey, k.PeerSecret)
	}
	if s.creds.ring != nil {
		return *s.creds.ring, nil
	}
	return trust.Keyring{}, errors.New("controlplane: this server does not have the cluster's keyring yet")
}
