package api

import "time"

// Role is what a token may do; a role includes those below it, but node and
// server, which are for agents and for servers that join alone.
type Role string

// Roles.
const (
	RoleAdmin  Role = "admin"
	RoleUser   Role = "user"
	RoleViewer Role = "viewer"
	// RoleMetrics reads /metrics and what there is to scrape, and nothing else.
	RoleMetrics Role = "metrics"
	RoleNode    Role = "node"
	RoleServer  Role = "server"
)

// Allows says whether a holder of r may do what needs role need.
func (r Role) Allows(need Role) bool {
	if r == RoleNode || need == RoleNode || r == RoleServer || need == RoleServer {
		return r == need
	}
	rank := map[Role]int{RoleMetrics: 1, RoleViewer: 2, RoleUser: 3, RoleAdmin: 4}
	return rank[r] >= rank[need] && rank[need] > 0
}

// Token is a bearer token; only its hash is kept.
type Token struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Role      Role      `json:"role"`
	Hash      []byte    `json:"hash,omitempty" doc:"SHA-256 of the secret; never sent to clients"`
	CreatedAt time.Time `json:"created_at"`
	// ExpiresAt is when it ends; zero: never.
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	// MaxUses is how many may join with it, UsedBy who did; 0: any number.
	MaxUses int      `json:"max_uses,omitempty"`
	UsedBy  []string `json:"used_by,omitempty"`
	// NodeID is the only node that the token speaks for: a node's own credential.
	NodeID string `json:"node_id,omitempty"`
	Index  uint64 `json:"index"`
}

// Expired says whether the token's time is over.
func (t Token) Expired(now time.Time) bool { return !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt) }

// Version says what a server or client is.
type Version struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Protocol int    `json:"protocol"`
}
