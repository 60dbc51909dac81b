package mesh

import (
	"errors"
	"log/slog"
	"time"
)

// Config describes a member.
type Config struct {
	// Name is unique in the mesh: the node id.
	Name string
	// BindAddr and BindPort are where it listens, UDP and TCP; port 0 picks one.
	BindAddr string
	BindPort int
	// AdvertiseAddr is told to others; BindAddr by default.
	AdvertiseAddr string
	// Key encrypts (16, 24 or 32 bytes, AES-GCM); empty: plain text.
	Key []byte
	// Label keeps meshes apart that share a network.
	Label string
	// Join are addresses of other members, host:port.
	Join []string
	// Meta is told with every membership message.
	Meta Meta
	// Document is the full capability document, spread by push/pull.
	Document []byte

	// JoinJitter is the longest random pause before the first join; 0 for none.
	JoinJitter time.Duration
	// RejoinInterval is how often peers that are not seen are joined again; 5 s
	// by default.
	RejoinInterval time.Duration
	Logger         *slog.Logger
}

// Mesh is one member.
type Mesh struct{}

// Open starts a member and joins the others in the background.
func Open(cfg Config) (*Mesh, error) { return nil, errors.ErrUnsupported }
