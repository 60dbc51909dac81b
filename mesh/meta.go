package mesh

// Meta is the little that is told with every membership message.
type Meta struct {
	Version   uint8
	Role      Role
	NodeHash  [8]byte  // first bytes of SHA-256 of the node id
	Digest    [12]byte // first bytes of the capability document's digest
	Port      uint16   // of the member's HTTP API, 0: none
	FreeSlots uint16
}

// Role is what a member is; a mesh of one node is both.
type Role uint8

// Roles.
const (
	RoleServer Role = 1 << iota
	RoleAgent
)
