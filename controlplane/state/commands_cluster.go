package state

import (
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// Keyring is what makes servers trust each other, and clients them. It is
// secret: snapshots hold it, and so must be kept like keys.
type Keyring struct {
	// CACert is PEM, CAKey PKCS #8 in PEM.
	CACert []byte `json:"ca_cert"`
	CAKey  []byte `json:"ca_key"`
	// GossipKey encrypted the gossip at first, 32 bytes; see View.GossipKeys.
	GossipKey []byte `json:"gossip_key"`
	// PeerSecret authenticates calls between servers.
	PeerSecret string `json:"peer_secret"`
}

// SetKeyring records the keyring, once: the first wins, another is a conflict.
type SetKeyring struct {
	Keyring Keyring `json:"keyring"`
}

// SetClusterSettings replaces the settings.
type SetClusterSettings struct {
	Settings api.ClusterSettings `json:"settings"`
}

// CreateJoinToken is CreateToken for tokens with an end or a number of uses. A
// server that knew only CreateToken would not keep those.
type CreateJoinToken struct {
	Token api.Token `json:"token"`
}

// UseToken counts one use of a join token by a server. A repeat by the same
// server counts once. At decides whether the token has ended.
type UseToken struct {
	ID string    `json:"id"`
	By string    `json:"by"`
	At time.Time `json:"at"`
}

// EnrolNode makes a machine a node and gives it a credential in place of the one
// it had. The proposer has checked that the caller holds the node's key.
type EnrolNode struct {
	NodeID    string `json:"node_id"`
	Name      string `json:"name"`
	PublicKey []byte `json:"public_key"`
	// Credential is the node's new token; its NodeID is the node's.
	Credential api.Token `json:"credential"`
	// TokenID is the join token that was shown; empty: none. A node that is known
	// by its key needs none, and none of its uses is counted.
	TokenID string    `json:"token_id,omitempty"`
	At      time.Time `json:"at"`
}

// ApproveNode lets a pending or rejected node run attempts, or, with Reject,
// forbids it to.
type ApproveNode struct {
	NodeID string `json:"node_id"`
	Reject bool   `json:"reject,omitempty"`
}

// RemoveNode forgets a node without live attempts, and its credential. Its key
// may enrol again with a join token.
type RemoveNode struct {
	NodeID string `json:"node_id"`
}

func (SetKeyring) Kind() string         { return "set_keyring" }
func (SetClusterSettings) Kind() string { return "set_cluster_settings" }
func (CreateJoinToken) Kind() string    { return "create_join_token" }
func (UseToken) Kind() string           { return "use_token" }
func (EnrolNode) Kind() string          { return "enrol_node" }
func (ApproveNode) Kind() string        { return "approve_node" }
func (RemoveNode) Kind() string         { return "remove_node" }
