package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

func (s *Server) listNodes(ctx context.Context, in *readIn) (*listOut[api.Node], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	nodes := s.Store.Nodes()
	for i := range nodes {
		s.Dispatch.FillNode(&nodes[i])
	}
	return listed(nodes), nil
}

func (s *Server) getNode(ctx context.Context, in *readID) (*one[api.Node], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	return s.node(in.ID)
}

func (s *Server) node(id string) (*one[api.Node], error) {
	n, err := s.Store.Node(id)
	if err != nil {
		return nil, err
	}
	s.Dispatch.FillNode(&n)
	return &one[api.Node]{n}, nil
}

type drainIn struct {
	ID   string `path:"id" maxLength:"256"`
	Body struct {
		Drain bool `json:"drain"`
	}
}

func (s *Server) drainNode(ctx context.Context, in *drainIn) (*one[api.Node], error) {
	if _, err := s.Raft.Apply(ctx, state.SetDrain{NodeID: in.ID, Drain: in.Body.Drain}); err != nil {
		return nil, err
	}
	return s.node(in.ID)
}

func (s *Server) listModels(ctx context.Context, in *readIn) (*listOut[api.Model], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	return listed(s.Store.Models()), nil
}

type readName struct {
	readParams
	Name string `path:"name" maxLength:"256"`
}

func (s *Server) getModel(ctx context.Context, in *readName) (*one[api.Model], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	m, err := s.Store.Model(in.Name)
	return &one[api.Model]{m}, err
}

func (s *Server) version(context.Context, *struct{}) (*one[api.Version], error) {
	return &one[api.Version]{s.Version}, nil
}

// health is what /healthz and /readyz say.
type health struct {
	Status string `json:"status" example:"ok"`
	Leader bool   `json:"leader" doc:"this server leads"`
	Index  uint64 `json:"index" doc:"of this server's state"`
}

func (s *Server) healthz(context.Context, *struct{}) (*one[health], error) {
	return &one[health]{health{Status: "ok", Leader: s.Raft.IsLeader(), Index: s.Store.Index()}}, nil
}

// readyTime bounds the checks of /readyz.
const readyTime = 2 * time.Second

func (s *Server) readyz(ctx context.Context, _ *struct{}) (*one[health], error) {
	if _, known := s.Raft.LeaderHTTP(); !known && !s.Raft.IsLeader() {
		return nil, notLeader()
	}
	ctx, cancel := context.WithTimeout(ctx, readyTime)
	defer cancel()
	if err := s.Objects.Ping(ctx); err != nil {
		return nil, problem(http.StatusServiceUnavailable, "", "the object store does not answer: %v", err)
	}
	if s.Raft.IsLeader() {
		if err := s.Raft.ConsistentRead(ctx); err != nil {
			return nil, err
		}
		if s.Prepared != nil && !s.Prepared() {
			return nil, problem(http.StatusServiceUnavailable, "", "the mesh is being prepared: its base models are not all in the object store yet")
		}
	}
	return &one[health]{health{Status: "ready", Leader: s.Raft.IsLeader(), Index: s.Store.Index()}}, nil
}
