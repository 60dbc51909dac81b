package nodeagent

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Identity is who a node is. It is made once and kept in the agent's directory.
type Identity struct {
	Private ed25519.PrivateKey
	// NodeID is "n-" and the first 12 hex digits of the public key's SHA-256.
	NodeID string
}

// Public is the public key, 32 bytes.
func (i Identity) Public() ed25519.PublicKey { return i.Private.Public().(ed25519.PublicKey) }

const pemType = "TUNEMESH NODE KEY" // 32 bytes of seed, RFC 8032

// LoadIdentity reads the key in an agent's directory, or makes one.
func LoadIdentity(dir string) (Identity, error) {
	path := filepath.Join(dir, "node.key")
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return newIdentity(dir, path)
	}
	if err != nil {
		return Identity{}, fmt.Errorf("nodeagent: node key: %w", err)
	}
	block, _ := pem.Decode(data)
	if block == nil || block.Type != pemType || len(block.Bytes) != ed25519.SeedSize {
		return Identity{}, fmt.Errorf("nodeagent: %s holds no node key; move it away to become a new node", path)
	}
	return identityOf(ed25519.NewKeyFromSeed(block.Bytes)), nil
}

func newIdentity(dir, path string) (Identity, error) {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return Identity{}, fmt.Errorf("nodeagent: node key: %w", err)
	}
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Identity{}, fmt.Errorf("nodeagent: node key: %w", err)
	}
	data := pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: private.Seed()})
	if err := writeFile(path, data, 0o600); err != nil {
		return Identity{}, fmt.Errorf("nodeagent: node key: %w", err)
	}
	return identityOf(private), nil
}

func identityOf(private ed25519.PrivateKey) Identity {
	id := Identity{Private: private}
	sum := sha256.Sum256(id.Public())
	id.NodeID = "n-" + hex.EncodeToString(sum[:])[:12]
	return id
}

// writeFile replaces a file so that a reader, also one after a power cut, sees
// the old one or all of the new one.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if err = errors.Join(err, tmp.Close()); err != nil {
		return err
	}
	if err := os.Rename(tmp.Name(), path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}
