package rest

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/auth"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// Cluster is what there is to do with the servers of the control plane. Peers,
// Join, Admit, Remove and Transfer are for the leader.
type Cluster interface {
	// Hello answers another server's.
	Hello(api.ServerHello) api.HelloReply
	// Agree answers a founder, which is told that this server has a cluster.
	Agree(api.FoundingRequest) error
	Peers(ctx context.Context) []api.Peer
	// Gossip is whom this server sees by gossip.
	Gossip() api.Gossip
	// GossipKey says which key encrypts the gossip; RotateGossipKey begins to
	// exchange it, and says the same.
	GossipKey() api.GossipKeyStatus
	RotateGossipKey(ctx context.Context) (api.GossipKeyStatus, error)
	// Join makes a server a member, or renews what is known of one.
	Join(ctx context.Context, r api.JoinRequest) error
	// Admit gives a server with a join token what makes it trusted.
	Admit(ctx context.Context, token api.Token, r api.AdmitRequest) (api.AdmitReply, error)
	// Depart removes the server that asks.
	Depart(ctx context.Context, id string) error
	// Remove removes a server by id or name.
	Remove(ctx context.Context, id string, force bool) error
	// Transfer hands over to a server, by id or name, and returns the new leader.
	Transfer(ctx context.Context, to string) error
	// Leave makes this server leave and end.
	Leave(ctx context.Context) error
	// IsPeer says whether a caller is a server of the cluster.
	IsPeer(secret string) bool
	// Pin is the SHA-256 of the CA's public key, nil without TLS.
	Pin() []byte
}

const tagCluster = "Cluster"

func (s *Server) clusterRoutes() {
	add(s, api.RoleAdmin, op("GET", "/v1/cluster/settings", tagCluster, "get-cluster-settings", "Get the cluster's settings"), s.clusterSettings)
	add(s, api.RoleAdmin, op("PUT", "/v1/cluster/settings", tagCluster, "set-cluster-settings", "Set the cluster's settings"), s.setClusterSettings)
	if s.Cluster == nil {
		return
	}
	add(s, auth.Peer, op("POST", "/v1/cluster/hello", tagCluster, "hello", "Say hello, as a server", lenient), s.hello)
	add(s, auth.Peer, op("POST", "/v1/cluster/founding", tagCluster, "agree-to-found", "Ask a server to found a cluster", lenient), s.agree)
	add(s, auth.Peer, op("POST", "/v1/cluster/join", tagCluster, "join-server", "Take part, as a server", lenient), s.joinServer)
	add(s, auth.Peer, op("POST", "/v1/cluster/depart", tagCluster, "depart-server", "Take part no longer, as a server", lenient), s.departServer)
	add(s, api.RoleServer, op("POST", "/v1/cluster/admit", tagCluster, "admit-server", "Get a server's certificate for a join token", lenient), s.admitServer)
	add(s, api.RoleViewer, op("GET", "/v1/cluster/peers", tagCluster, "list-peers", "List the servers of the control plane"), s.listPeers)
	add(s, api.RoleViewer, op("GET", "/v1/cluster/gossip", tagCluster, "list-gossip-members", "List whom the server that is asked sees by gossip"), s.listGossip)
	add(s, api.RoleAdmin, op("GET", "/v1/cluster/gossip-key", tagCluster, "get-gossip-key", "Say which key encrypts the gossip, by a digest"), s.gossipKey)
	add(s, api.RoleAdmin, op("POST", "/v1/cluster/gossip-key", tagCluster, "rotate-gossip-key", "Begin to exchange the gossip's key", func(o *huma.Operation) {
		o.Description = "It takes three steps, each of a few heartbeats, so that no member is left behind. While it goes on a repeat changes nothing."
	}), s.rotateGossipKey)
	add(s, api.RoleAdmin, op("POST", "/v1/cluster/peers/{id}/remove", tagCluster, "remove-peer", "Remove a server that is gone", func(o *huma.Operation) {
		o.Description = "Refused where the servers that stay and can be reached would be no quorum, unless forced."
	}), s.removePeer)
	add(s, api.RoleAdmin, op("POST", "/v1/cluster/transfer", tagCluster, "transfer-leadership", "Let another server lead"), s.transfer)
	add(s, api.RoleAdmin, op("POST", "/v1/cluster/leave", tagCluster, "leave", "Let the server that is asked leave the cluster and end"), s.leave)
}

// staysHere are the routes under /v1 that each server answers by itself.
func staysHere(path string) bool {
	switch path {
	case "/v1/version", "/v1/cluster/hello", "/v1/cluster/founding", "/v1/cluster/leave", "/v1/cluster/gossip":
		return true
	}
	return false
}

type helloIn struct{ Body api.ServerHello }

func (s *Server) hello(_ context.Context, in *helloIn) (*one[api.HelloReply], error) {
	return &one[api.HelloReply]{s.Cluster.Hello(in.Body)}, nil
}

type foundingIn struct{ Body api.FoundingRequest }

func (s *Server) agree(_ context.Context, in *foundingIn) (*done, error) {
	return nil, asGiven(s.Cluster.Agree(in.Body))
}

type joinIn struct{ Body api.JoinRequest }

func (s *Server) joinServer(ctx context.Context, in *joinIn) (*done, error) {
	return nil, asGiven(s.Cluster.Join(ctx, in.Body))
}

type departIn struct {
	Body struct {
		ID string `json:"id"`
	}
}

func (s *Server) departServer(ctx context.Context, in *departIn) (*done, error) {
	return nil, asGiven(s.Cluster.Depart(ctx, in.Body.ID))
}

type admitIn struct{ Body api.AdmitRequest }

func (s *Server) admitServer(ctx context.Context, in *admitIn) (*one[api.AdmitReply], error) {
	reply, err := s.Cluster.Admit(ctx, auth.Caller(ctx), in.Body)
	return &one[api.AdmitReply]{reply}, asGiven(err)
}

func (s *Server) listPeers(ctx context.Context, in *readIn) (*listOut[api.Peer], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	return listed(s.Cluster.Peers(ctx)), nil
}

func (s *Server) listGossip(context.Context, *struct{}) (*one[api.Gossip], error) {
	return &one[api.Gossip]{s.Cluster.Gossip()}, nil
}

func (s *Server) gossipKey(ctx context.Context, in *readIn) (*one[api.GossipKeyStatus], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	return &one[api.GossipKeyStatus]{s.Cluster.GossipKey()}, nil
}

func (s *Server) rotateGossipKey(ctx context.Context, _ *struct{}) (*one[api.GossipKeyStatus], error) {
	status, err := s.Cluster.RotateGossipKey(ctx)
	return &one[api.GossipKeyStatus]{status}, asGiven(err)
}

type removePeerIn struct {
	ID   string `path:"id" maxLength:"256" doc:"of the server, or its name"`
	Body *api.RemovePeer
}

func (s *Server) removePeer(ctx context.Context, in *removePeerIn) (*listOut[api.Peer], error) {
	if err := s.Cluster.Remove(ctx, in.ID, in.Body != nil && in.Body.Force); err != nil {
		return nil, asGiven(err)
	}
	return listed(s.Cluster.Peers(ctx)), nil
}

type transferIn struct{ Body *api.TransferRequest }

func (s *Server) transfer(ctx context.Context, in *transferIn) (*done, error) {
	to := ""
	if in.Body != nil {
		to = in.Body.To
	}
	return nil, asGiven(s.Cluster.Transfer(ctx, to))
}

func (s *Server) leave(ctx context.Context, _ *struct{}) (*done, error) {
	return nil, asGiven(s.Cluster.Leave(ctx))
}

func (s *Server) clusterSettings(ctx context.Context, in *readIn) (*one[api.ClusterSettings], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	return &one[api.ClusterSettings]{s.Store.ClusterSettings()}, nil
}

type settingsIn struct{ Body api.ClusterSettings }

func (s *Server) setClusterSettings(ctx context.Context, in *settingsIn) (*one[api.ClusterSettings], error) {
	if _, err := s.Raft.Apply(ctx, state.SetClusterSettings{Settings: in.Body}); err != nil {
		return nil, err
	}
	return &one[api.ClusterSettings]{s.Store.ClusterSettings()}, nil
}

// asGiven lets a problem document that another room made pass as it is.
func asGiven(err error) error {
	var p *api.Problem
	if err != nil && asProblemDocument(err, &p) {
		return &problemError{*p}
	}
	return err
}
