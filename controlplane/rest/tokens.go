package rest

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/auth"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

const tagTokens = "Tokens"

func (s *Server) tokenRoutes() {
	add(s, api.RoleAdmin, op("POST", "/v1/tokens", tagTokens, "create-token", "Make a token", func(o *huma.Operation) {
		o.Description = "The answer holds the token, this once: only its hash is kept. A repeat with the same Idempotency-Key answers 200 with the same token."
		o.DefaultStatus = http.StatusCreated
	}), s.createToken)
	add(s, api.RoleAdmin, op("GET", "/v1/tokens", tagTokens, "list-tokens", "List tokens, newest first"), s.listTokens)
	add(s, api.RoleAdmin, op("POST", "/v1/tokens/{id}/revoke", tagTokens, "revoke-token", "Revoke a token"), s.revokeToken)
}

func asProblemDocument(err error, p **api.Problem) bool { return errors.As(err, p) }

type tokenIn struct {
	Key           string `header:"Idempotency-Key" maxLength:"256" doc:"the same caller's same key is the same token; with another body it is refused"`
	Authorization string `header:"Authorization" doc:"Bearer and the caller's token"`
	Body          api.TokenRequest
}

type tokenOut struct {
	Status int
	Body   api.TokenReply
}

func (s *Server) createToken(ctx context.Context, in *tokenIn) (*tokenOut, error) {
	r := in.Body
	if !slices.Contains([]api.Role{api.RoleAdmin, api.RoleUser, api.RoleViewer, api.RoleMetrics, api.RoleNode, api.RoleServer}, r.Role) {
		return nil, fault("role", "is %q, want node, server, viewer, user or admin", r.Role)
	}
	joins := r.Role == api.RoleNode || r.Role == api.RoleServer
	if r.Uses > 0 && !joins {
		return nil, fault("uses", "is for tokens of role node and server: others are not used up")
	}
	now := s.Clock().UTC()
	name := r.Name
	if name == "" {
		name = string(r.Role) + " by " + auth.Caller(ctx).Name
	}
	secret, token := auth.NewToken(name, r.Role, now)
	var keyed tokenMaker
	if hasKey(in.Key) {
		var err error
		if keyed, err = s.tokenMaker(ctx, in.Key, in.Authorization); err != nil {
			return nil, err
		}
		secret, token = keyed.token(name, r.Role, now)
	}
	token.MaxUses = r.Uses
	if r.TTL != "" {
		ttl, err := time.ParseDuration(r.TTL)
		if err != nil || ttl <= 0 {
			return nil, fault("ttl", "is %q, want a duration such as 24h", r.TTL)
		}
		token.ExpiresAt = now.Add(ttl)
	}
	var command state.Command = state.CreateToken{Token: token}
	if token.MaxUses > 0 || !token.ExpiresAt.IsZero() {
		command = state.CreateJoinToken{Token: token}
	}
	status := http.StatusCreated
	result, err := s.Raft.Apply(ctx, command)
	if hasKey(in.Key) && (errors.Is(err, state.ErrConflict) || err == nil && !result.Created) {
		// It is there; made at another time, its hash is another.
		status = http.StatusOK
		var have api.Token
		if have, err = s.Store.Token(token.ID); err == nil {
			secret, err = keyed.again(have, token)
			token = have
		}
	}
	if err != nil {
		return nil, err
	}
	token.Hash = nil
	out := api.JoinToken{Role: r.Role, Bearer: secret}
	if s.Cluster != nil {
		out.CA = s.Cluster.Pin()
	}
	return &tokenOut{Status: status, Body: api.TokenReply{Token: out.String(), Info: token, Servers: s.serverURLs()}}, nil
}

// serverURLs are the base URLs of all servers, the leader's first.
func (s *Server) serverURLs() []string {
	var out []string
	if leader, ok := s.Raft.LeaderHTTP(); ok && leader != "" {
		out = append(out, leader)
	}
	for _, server := range s.Store.Servers() {
		if server.HTTPAddress != "" && !slices.Contains(out, server.HTTPAddress) {
			out = append(out, server.HTTPAddress)
		}
	}
	return out
}

func (s *Server) listTokens(ctx context.Context, in *readIn) (*listOut[api.Token], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	var out []api.Token
	for _, t := range s.Store.Tokens() {
		t.Hash = nil
		if t.NodeID == "" { // a node's credential is the node's
			out = append(out, t)
		}
	}
	slices.SortStableFunc(out, func(a, b api.Token) int { return b.CreatedAt.Compare(a.CreatedAt) })
	return listed(out), nil
}

func (s *Server) revokeToken(ctx context.Context, in *idIn) (*done, error) {
	if t, err := s.Store.Token(in.ID); err == nil && t.NodeID != "" {
		return nil, problem(http.StatusConflict, api.ProblemConflict, "%s is the credential of node %s: reject or remove the node instead", t.ID, t.NodeID)
	}
	_, err := s.Raft.Apply(ctx, state.RevokeToken{ID: in.ID})
	return nil, err
}
