package mesh

import (
	"encoding/binary"
	"fmt"
)

// Meta is the little that is told with every membership message.
type Meta struct {
	Version   uint8
	Role      Role
	NodeHash  [8]byte  // first bytes of SHA-256 of the node id
	Digest    [12]byte // first bytes of SHA-256 of the capability document
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

// metaSize is fixed: memberlist allows 512 bytes and panics above. Layout, big
// endian: version 1, role 1, port 2, free slots 2, reserved 6, node hash 8,
// digest 12.
const (
	metaSize    = 32
	metaVersion = 1
)

// Encode returns the meta's 32 bytes.
func (m Meta) Encode() []byte {
	b := make([]byte, metaSize)
	b[0], b[1] = metaVersion, byte(m.Role)
	binary.BigEndian.PutUint16(b[2:], m.Port)
	binary.BigEndian.PutUint16(b[4:], m.FreeSlots)
	copy(b[12:], m.NodeHash[:])
	copy(b[20:], m.Digest[:])
	return b
}

// DecodeMeta reads a meta. Longer ones, of a later version, are read as far as
// this version knows.
func DecodeMeta(b []byte) (Meta, error) {
	if len(b) < metaSize {
		return Meta{}, fmt.Errorf("mesh: meta is %d bytes long, want %d at least", len(b), metaSize)
	}
	if b[0] == 0 {
		return Meta{}, fmt.Errorf("mesh: meta has version 0")
	}
	m := Meta{Version: b[0], Role: Role(b[1]), Port: binary.BigEndian.Uint16(b[2:]), FreeSlots: binary.BigEndian.Uint16(b[4:])}
	copy(m.NodeHash[:], b[12:])
	copy(m.Digest[:], b[20:])
	return m, nil
}
