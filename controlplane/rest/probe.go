package rest

import (
	"context"
	"net/http"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/auth"
)

// prober is an object store whose reach a client can try. artifacts.Store is one.
type prober interface {
	Probe(ctx context.Context, id string, now time.Time) (api.StoreProbe, error)
}

func (s *Server) probeRoutes() {
	add(s, auth.NodeOrUser, op("POST", "/v1/doctor/probe", tagServer, "probe-store", "Get links to try the way to the object store with", lenient), s.probeStore)
}

func (s *Server) probeStore(ctx context.Context, _ *struct{}) (*one[api.StoreProbe], error) {
	store, ok := s.Objects.(prober)
	if !ok {
		return nil, problem(http.StatusNotImplemented, api.ProblemNotFound, "this mesh's object store cannot be probed")
	}
	p, err := store.Probe(ctx, ulid.Make().String(), s.Clock())
	if err != nil {
		return nil, err
	}
	return &one[api.StoreProbe]{p}, nil
}
