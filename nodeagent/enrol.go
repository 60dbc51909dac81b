package nodeagent

import (
	"context"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tunemesh/tunemesh/api"
)

// Membership is what a node keeps of the mesh that it joined: with it and its key
// it comes back without a token.
type Membership struct {
	// Credential is the node's own token; it speaks for this node alone.
	Credential string `json:"credential"`
	// Servers are the base URLs that it joined by.
	Servers []string `json:"servers,omitempty"`
}

func membershipPath(dir string) string { return filepath.Join(dir, "membership.json") }

// LoadMembership reads what an earlier start left; the zero value for nothing.
func LoadMembership(dir string) (Membership, error) {
	var m Membership
	data, err := os.ReadFile(membershipPath(dir))
	if errors.Is(err, fs.ErrNotExist) {
		return m, nil
	}
	if err == nil {
		err = json.Unmarshal(data, &m)
	}
	if err != nil {
		return m, fmt.Errorf("nodeagent: %s: %w; remove the file and give a join token to join again as the same node", membershipPath(dir), err)
	}
	return m, nil
}

// Save keeps a membership for the next start.
func (m Membership) Save(dir string) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("nodeagent: membership: %w", err)
	}
	if err := writeFile(membershipPath(dir), append(data, '\n'), 0o600); err != nil {
		return fmt.Errorf("nodeagent: membership: %w", err)
	}
	return nil
}

// Enroller is what enrolling needs of the control plane. Its calls carry the join
// token, if there is one.
type Enroller interface {
	Challenge(ctx context.Context, nodeID string) (api.Challenge, error)
	Enrol(ctx context.Context, nodeID string, r api.EnrolRequest) (api.EnrolReply, error)
}

// enrolTries is how often a challenge is asked for: another leader does not know
// the one before's.
const enrolTries = 5

// Enrol proves this node's key and returns its new credential, which takes the
// place of the one before. A node that the mesh knows needs no token for it.
func Enrol(ctx context.Context, id Identity, name string, cp Enroller) (api.EnrolReply, error) {
	if name == "" {
		name, _ = os.Hostname()
	}
	if name == "" {
		name = "node"
	}
	for n := 1; ; n++ {
		challenge, err := cp.Challenge(ctx, id.NodeID)
		if err != nil {
			return api.EnrolReply{}, fmt.Errorf("nodeagent: enrol: %w", err)
		}
		reply, err := cp.Enrol(ctx, id.NodeID, api.EnrolRequest{
			Name: name, PublicKey: id.Public(), Challenge: challenge.Challenge,
			Signature: ed25519.Sign(id.Private, api.EnrolMessage(id.NodeID, challenge.Challenge)),
		})
		var p *api.Problem
		if errors.As(err, &p) && p.Type == api.ProblemChallenge && n < enrolTries {
			continue
		}
		if err != nil {
			return reply, fmt.Errorf("nodeagent: enrol: %w", err)
		}
		return reply, nil
	}
}
