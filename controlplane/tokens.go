package controlplane

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/auth"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// AdminTokenPath is where the founder of a mesh finds the administrator's token.
func (s *Server) AdminTokenPath() string { return filepath.Join(s.config.Dir, "admin.token") }

// NodeTokenPath is where the founder finds a token for node agents.
func (s *Server) NodeTokenPath() string { return filepath.Join(s.config.Dir, "node.token") }

// AdminToken reads the administrator's token.
func (s *Server) AdminToken() (string, error) { return readPrivate(s.AdminTokenPath()) }

// NodeToken reads the token for node agents.
func (s *Server) NodeToken() (string, error) { return readPrivate(s.NodeTokenPath()) }

// founderToken is a token that everybody with the cluster secret can compute.
type founderToken struct {
	path, purpose, name string
	role                api.Role
}

func (s *Server) founderTokens() []founderToken {
	return []founderToken{
		{s.AdminTokenPath(), "admin", "founder", api.RoleAdmin},
		{s.NodeTokenPath(), "node", "nodes", api.RoleNode},
	}
}

// ensureTokens makes the founders' tokens, once: they are derived from the
// cluster secret, so that every founder has them in its files whichever of them
// leads first. That the keyring is recorded says that they were; those that were
// revoked since stay revoked.
func (s *Server) ensureTokens(ctx context.Context) error {
	if _, err := s.raft.Store().Keyring(); err == nil || s.creds.secret == nil {
		return nil
	}
	for _, t := range s.founderTokens() {
		if _, err := os.Stat(t.path + ".recorded"); err == nil {
			continue // made before there were cluster secrets
		}
		id, secret := s.creds.secret.Words(t.purpose)
		_, token := auth.WithSecret(id, secret, t.name, t.role, time.Now())
		if _, err := s.raft.Apply(ctx, state.CreateToken{Token: token}); err != nil {
			return fmt.Errorf("controlplane: record the %s token: %w", t.name, err)
		}
	}
	return nil
}

// writeTokens puts the founders' tokens into files of this server's.
func (s *Server) writeTokens() error {
	if s.creds.secret == nil {
		return nil
	}
	for _, t := range s.founderTokens() {
		if _, err := os.Stat(t.path); err == nil {
			continue
		}
		id, secret := s.creds.secret.Words(t.purpose)
		bearer, _ := auth.WithSecret(id, secret, t.name, t.role, time.Now())
		if err := writePrivate(t.path, (api.JoinToken{CA: s.creds.pin(), Role: t.role, Bearer: bearer}).String()); err != nil {
			return err
		}
	}
	return nil
}

// serverID reads the server's name for good, or makes it.
func serverID(path string) (string, error) {
	return onceWritten(path, func() string { return "s-" + hex.EncodeToString(randomBytes(6)) })
}

// onceWritten returns a private file's text, made at the first call.
func onceWritten(path string, make func() string) (string, error) {
	text, err := readPrivate(path)
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return text, err
	}
	text = make()
	return text, writePrivate(path, text)
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, by its documentation
	return b
}

func readPrivate(path string) (string, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("controlplane: %w", err)
	}
	return strings.TrimSpace(string(data)), nil
}

// writePrivate writes a file for this user alone, whole or not at all.
func writePrivate(path, text string) error {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("controlplane: %w", err)
	}
	_, err = f.WriteString(text + "\n")
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("controlplane: write %s: %w", path, err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("controlplane: %w", err)
	}
	return nil
}
