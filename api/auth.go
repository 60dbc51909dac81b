package api

import "time"

// Role is what a token may do; a role includes those below it, but node, which
// is for agents alone.
type Role string

// Roles.
const (
	RoleAdmin  Role = "admin"
	RoleUser   Role = "user"
	RoleViewer Role = "viewer"
	RoleNode   Role = "node"
)

// Allows says whether a holder of r may do what needs role need.
func (r Role) Allows(need Role) bool {
	if r == RoleNode || need == RoleNode {
		return r == need
	}
	rank := map[Role]int{RoleViewer: 1, RoleUser: 2, RoleAdmin: 3}
	return rank[r] >= rank[need] && rank[need] > 0
}

// Token is a bearer token; only its hash is kept.
type Token struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Role      Role      `json:"role"`
	Hash      []byte    `json:"hash,omitempty" doc:"SHA-256 of the secret; never sent to clients"`
	CreatedAt time.Time `json:"created_at"`
	Index     uint64    `json:"index"`
}

// Version says what a server or client is.
type Version struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Go       string `json:"go"`
	Protocol int    `json:"protocol"`
}
