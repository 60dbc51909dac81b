package rest

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/auth"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// challengeTime is how long a node has to sign.
const challengeTime = 2 * time.Minute

// enrolment makes challenges and knows its own: the leader's time and a MAC over
// it and the node's id, with a key that lives as long as this process. A node
// that meets another leader in between asks for another challenge.
type enrolment struct{ key [32]byte }

func newEnrolment() *enrolment {
	e := &enrolment{}
	_, _ = rand.Read(e.key[:]) // never fails, by its documentation
	return e
}

func (e *enrolment) mac(nodeID string, at []byte) []byte {
	h := hmac.New(sha256.New, e.key[:])
	h.Write(at)
	h.Write([]byte(nodeID))
	return h.Sum(nil)
}

func (e *enrolment) challenge(nodeID string, now time.Time) string {
	at := binary.BigEndian.AppendUint64(nil, uint64(now.UnixNano()))
	return base64.RawURLEncoding.EncodeToString(append(at, e.mac(nodeID, at)...))
}

func (e *enrolment) valid(nodeID, challenge string, now time.Time) bool {
	data, err := base64.RawURLEncoding.DecodeString(challenge)
	if err != nil || len(data) != 8+sha256.Size || !hmac.Equal(data[8:], e.mac(nodeID, data[:8])) {
		return false
	}
	age := now.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(data))))
	return age >= 0 && age < challengeTime
}

func (s *Server) enrolRoutes() {
	add(s, auth.Public, op("GET", "/v1/nodes/{id}/challenge", tagAgents, "get-challenge", "Get what a node has to sign to enrol"), s.challenge)
	add(s, auth.Public, op("POST", "/v1/nodes/{id}/enrol", tagAgents, "enrol-node", "Make a machine a node, by its key and a join token", lenient, func(o *huma.Operation) {
		o.Description = "A node that is known by its key needs no token: it gets a new credential in place of the old one."
	}), s.enrol)
	add(s, api.RoleAdmin, op("POST", "/v1/nodes/{id}/approve", tagNodes, "approve-node", "Let a pending node run attempts"), s.approveNode)
	add(s, api.RoleAdmin, op("POST", "/v1/nodes/{id}/reject", tagNodes, "reject-node", "Forbid a node to run attempts"), s.rejectNode)
	add(s, api.RoleAdmin, op("POST", "/v1/nodes/{id}/remove", tagNodes, "remove-node", "Forget a node and its credential"), s.removeNode)
}

func (s *Server) challenge(_ context.Context, in *idIn) (*one[api.Challenge], error) {
	if !nodeID.MatchString(in.ID) {
		return nil, fault("id", "is no node's id")
	}
	now := s.Clock()
	return &one[api.Challenge]{api.Challenge{Challenge: s.enrolments.challenge(in.ID, now), ExpiresAt: now.Add(challengeTime).UTC()}}, nil
}

type enrolIn struct {
	ID            string `path:"id" doc:"of the node"`
	Authorization string `header:"Authorization" doc:"Bearer and the join token"`
	Body          api.EnrolRequest
}

// nodeIDOf derives a node's id from its key, as agents do.
func nodeIDOf(key []byte) string {
	sum := sha256.Sum256(key)
	return "n-" + hex.EncodeToString(sum[:])[:12]
}

func (s *Server) enrol(ctx context.Context, in *enrolIn) (*one[api.EnrolReply], error) {
	r := in.Body
	switch {
	case len(r.PublicKey) != ed25519.PublicKeySize:
		return nil, fault("public_key", "is %d bytes long, want %d", len(r.PublicKey), ed25519.PublicKeySize)
	case in.ID != nodeIDOf(r.PublicKey):
		return nil, fault("id", "is not the one of this key, %s", nodeIDOf(r.PublicKey))
	case r.Name == "" || len(r.Name) > maxFileName:
		return nil, fault("name", "is %d bytes long, want 1 to %d", len(r.Name), maxFileName)
	case !s.enrolments.valid(in.ID, r.Challenge, s.Clock()):
		return nil, problem(http.StatusUnauthorized, api.ProblemChallenge, "the challenge is not one of this server's, or too old: ask for another")
	case !ed25519.Verify(r.PublicKey, api.EnrolMessage(in.ID, r.Challenge), r.Signature):
		return nil, problem(http.StatusUnauthorized, api.ProblemUnauthorized, "the signature is not the node's")
	}
	now := s.Clock().UTC()
	secret, credential := auth.NewToken("node "+in.ID, api.RoleNode, now)
	credential.NodeID = in.ID
	command := state.EnrolNode{NodeID: in.ID, Name: r.Name, PublicKey: r.PublicKey, Credential: credential, At: now}
	if raw, err := auth.Bearer(in.Authorization); err == nil {
		token, err := auth.Authenticate(s.Store, raw)
		// A token that has ended or been revoked does no harm to a node that needs
		// none; whether one is needed is decided where nothing can change it.
		if err == nil && token.NodeID == "" {
			command.TokenID = token.ID
		}
	}
	if _, err := s.Raft.Apply(ctx, command); err != nil {
		if p := refusedToken(s.asProblem(err)); p != nil {
			return nil, p
		}
		return nil, err
	}
	n, err := s.Store.Node(in.ID)
	if err != nil {
		return nil, err
	}
	out := api.JoinToken{Role: api.RoleNode, Bearer: secret}
	if s.Cluster != nil {
		out.CA = s.Cluster.Pin()
	}
	return &one[api.EnrolReply]{api.EnrolReply{Credential: out.String(), Approval: n.Approval}}, nil
}

// refusedToken turns the state's "this token is not good" into a 401.
func refusedToken(err error) error {
	p, ok := err.(*problemError)
	if !ok || len(p.Errors) != 1 || p.Errors[0].Field != "token" {
		return nil
	}
	return problem(http.StatusUnauthorized, api.ProblemUnauthorized, "the token %s", p.Errors[0].Message)
}

func (s *Server) approveNode(ctx context.Context, in *idIn) (*one[api.Node], error) {
	return s.changeNode(ctx, in.ID, state.ApproveNode{NodeID: in.ID})
}

func (s *Server) rejectNode(ctx context.Context, in *idIn) (*one[api.Node], error) {
	return s.changeNode(ctx, in.ID, state.ApproveNode{NodeID: in.ID, Reject: true})
}

func (s *Server) changeNode(ctx context.Context, id string, c state.Command) (*one[api.Node], error) {
	if _, err := s.Raft.Apply(ctx, c); err != nil {
		return nil, err
	}
	return s.node(id)
}

func (s *Server) removeNode(ctx context.Context, in *idIn) (*done, error) {
	_, err := s.Raft.Apply(ctx, state.RemoveNode{NodeID: in.ID})
	return nil, err
}

// speaksFor refuses a caller whose credential is another node's. A join token
// speaks for no node: it is for enrolling.
func speaksFor(ctx context.Context, nodeID string) error {
	switch token := auth.Caller(ctx); token.NodeID {
	case nodeID:
		return nil
	case "":
		p := problem(http.StatusForbidden, api.ProblemForbidden, "a join token speaks for no node: the agent enrols with it and gets a credential of its own")
		p.Hint = "this agent is too old for the cluster, or asks without having enrolled"
		return p
	default:
		return problem(http.StatusForbidden, api.ProblemForbidden, "the credential is that of node %s, not of %s", token.NodeID, nodeID)
	}
}
