package api

import "time"

// Server is one server of the control plane as the cluster knows it.
type Server struct {
	ID string `json:"id"`
	// Name is what people call it: that of its host unless another was given.
	// A server that lost its disk comes back under its old name with a new id.
	Name          string `json:"name"`
	RaftAddress   string `json:"raft_address"`
	URL           string `json:"url" doc:"base URL of its API"`
	GossipAddress string `json:"gossip_address,omitempty"`
	Version       string `json:"version,omitempty"`
	Protocol      int    `json:"protocol,omitempty"`
}

// Suffrage says whether a server's vote counts.
type Suffrage string

// Suffrages. A server joins as a nonvoter and is promoted when it has caught up.
const (
	Voter    Suffrage = "voter"
	Nonvoter Suffrage = "nonvoter"
)

// Peer is a server with what the leader sees of it.
//
//	GET /v1/cluster/peers
type Peer struct {
	Server
	Suffrage Suffrage `json:"suffrage"`
	Leader   bool     `json:"leader"`
	// Reachable, Applied and Lag are what the leader saw when it looked last.
	Reachable bool   `json:"reachable"`
	Applied   uint64 `json:"applied_index"`
	Lag       uint64 `json:"lag" doc:"entries behind the leader"`
}

// Gossip is whom one server sees by gossip. It is a hint: who is not in sight may
// be well, and what counts is the node's lease.
//
//	GET /v1/cluster/gossip
type Gossip struct {
	// Server and Name are those of the server that was asked; another may see others.
	Server  string         `json:"server"`
	Name    string         `json:"name"`
	Members []GossipMember `json:"members" doc:"by name, the server itself included"`
}

// GossipMember is a server or an agent in sight.
type GossipMember struct {
	ID      string `json:"id" doc:"of the server or node"`
	Name    string `json:"name,omitempty" doc:"what people call it, where the state knows it"`
	Role    string `json:"role" enum:"server,agent"`
	Address string `json:"address" doc:"host:port of its gossip"`
}

// GossipKeyStatus says which key encrypts the gossip, each by a digest. Coming is
// one that all take and nobody sends with yet, Going one that is taken still.
//
//	GET /v1/cluster/gossip-key
//	POST /v1/cluster/gossip-key   begins to exchange it
type GossipKeyStatus struct {
	Primary string `json:"primary"`
	Coming  string `json:"coming,omitempty"`
	Going   string `json:"going,omitempty"`
}

// AtRest says that no exchange is under way.
func (s GossipKeyStatus) AtRest() bool { return s.Coming == "" && s.Going == "" }

// ServerHello is what servers tell each other of themselves, before there is a
// cluster and after.
type ServerHello struct {
	Server
	// Expect is how many servers it waits for to found a cluster with; 0: it
	// founds none.
	Expect int `json:"expect"`
	// HasState: it has a Raft log, so it never takes part in a founding.
	HasState bool `json:"has_state"`
	// Founding is the founder that it has promised to found with.
	Founding string `json:"founding,omitempty"`
	Applied  uint64 `json:"applied_index"`
}

// HelloReply answers a server's hello with one of its own, and with what others
// said lately, so that servers which know only one address find each other.
//
//	POST /v1/cluster/hello
type HelloReply struct {
	ServerHello
	Others []ServerHello `json:"others,omitempty"`
}

// JoinRequest asks the leader to let a server take part, or tells its addresses
// anew. HasState: it has a Raft log; then it must be a member already.
//
//	POST /v1/cluster/join
type JoinRequest struct {
	Server
	HasState bool `json:"has_state"`
}

// FoundingRequest asks a server to found a cluster with exactly these servers.
// One that has promised itself to another founder refuses.
//
//	POST /v1/cluster/founding
type FoundingRequest struct {
	Founder string   `json:"founder"`
	Servers []Server `json:"servers"`
}

// AdmitRequest is what a server that wants to join sends with its join token.
//
//	POST /v1/cluster/admit
type AdmitRequest struct {
	ID   string `json:"id"`
	Name string `json:"name"`
	// CSR is a PKCS #10 request in DER; empty where the cluster speaks plain HTTP.
	CSR []byte `json:"csr,omitempty"`
}

// AdmitReply makes the bearer a server of the cluster.
type AdmitReply struct {
	// Certificate is DER; CA is PEM. Both are empty in a cluster without TLS.
	Certificate []byte `json:"certificate,omitempty"`
	CA          []byte `json:"ca,omitempty"`
	// Secret authenticates calls between servers; GossipKey encrypts the gossip.
	Secret    string `json:"secret"`
	GossipKey []byte `json:"gossip_key"`
}

// PeerHeader carries AdmitReply.Secret in calls between servers.
const PeerHeader = "Tunemesh-Peer"

// RemovePeer asks to remove a server.
//
//	POST /v1/cluster/peers/{id}/remove
type RemovePeer struct {
	Force bool `json:"force,omitempty" doc:"also where the cluster would stand with fewer reachable voters than a quorum needs"`
}

// TransferRequest asks the leader to hand over, to the named server if one is
// named.
//
//	POST /v1/cluster/transfer
type TransferRequest struct {
	To string `json:"to,omitempty" doc:"id or name; empty: whoever is furthest"`
}

// ClusterSettings are what an administrator can switch.
//
//	GET and PUT /v1/cluster/settings
type ClusterSettings struct {
	RequireApproval bool `json:"require_approval" doc:"nodes that join wait for an administrator"`
}

// TokenRequest asks for a new token.
//
//	POST /v1/tokens
type TokenRequest struct {
	Role Role   `json:"role" doc:"node and server tokens are for joining; admin, user and viewer are for people, metrics for Prometheus"`
	Name string `json:"name,omitempty" maxLength:"128"`
	// TTL is a Go duration; empty: never expires.
	TTL  string `json:"ttl,omitempty" example:"24h"`
	Uses int    `json:"uses,omitempty" doc:"how many nodes or servers may join with it; 0: any number" minimum:"0" maximum:"100000"`
}

// TokenReply shows a new token, this once.
type TokenReply struct {
	// Token is the whole token, with the cluster's CA in it where it speaks TLS.
	Token string `json:"token"`
	Info  Token  `json:"info"`
	// Servers are the base URLs to join by, the best first.
	Servers []string `json:"servers"`
}

// EnrolRequest makes a machine a node. The signature proves its key.
//
//	POST /v1/nodes/{id}/enrol
type EnrolRequest struct {
	Name      string `json:"name"`
	PublicKey []byte `json:"public_key" doc:"Ed25519, 32 bytes"`
	Challenge string `json:"challenge" doc:"as GET /v1/nodes/{id}/challenge gave it"`
	Signature []byte `json:"signature" doc:"of EnrolMessage"`
}

// EnrolMessage is what a node signs to enrol.
func EnrolMessage(nodeID, challenge string) []byte {
	return []byte("tunemesh enrol 1\n" + nodeID + "\n" + challenge + "\n")
}

// Challenge is what a node has to sign soon.
type Challenge struct {
	Challenge string    `json:"challenge"`
	ExpiresAt time.Time `json:"expires_at"`
}

// EnrolReply is a node's own credential. It speaks for this node alone; a later
// enrolment replaces it.
type EnrolReply struct {
	Credential string `json:"credential"`
	Approval   string `json:"approval,omitempty" doc:"pending: an administrator has to approve the node"`
}

// Approvals of a node; empty means approved.
const (
	ApprovalPending  = "pending"
	ApprovalRejected = "rejected"
)
