package trust

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// A cluster secret is a line of text, tmc_ and 52 letters and digits (32 random
// bytes in lower-case base32). All that three servers need to found a cluster
// that trusts itself is derived from it by HKDF-SHA-256 (RFC 5869), each part
// under its own label: so one line, given to each, does.
type Secret struct{ key []byte }

const secretPrefix = "tmc_"

var secretText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// NewSecret makes a secret.
func NewSecret() Secret {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails, by its documentation
	return Secret{b}
}

// ParseSecret reads a secret's text. Its errors do not contain it.
func ParseSecret(text string) (Secret, error) {
	rest, ok := strings.CutPrefix(strings.TrimSpace(text), secretPrefix)
	if !ok {
		return Secret{}, errors.New("trust: this is no cluster secret: one starts with tmc_, and `tunemesh token new-cluster` makes one")
	}
	b, err := secretText.DecodeString(rest)
	if err != nil || len(b) != 32 {
		return Secret{}, fmt.Errorf("trust: the cluster secret is damaged: %d characters after tmc_, want 52 letters and digits", len(rest))
	}
	return Secret{b}, nil
}

// String is the secret's text.
func (s Secret) String() string { return secretPrefix + secretText.EncodeToString(s.key) }

// derive returns n bytes for a label.
func (s Secret) derive(label string, n int) []byte {
	out, err := hkdf.Key(sha256.New, s.key, nil, "tunemesh cluster 1 "+label, n)
	if err != nil {
		panic("trust: hkdf: " + err.Error()) // n is a small constant
	}
	return out
}

// Words returns an id of 12 and a secret of 52 letters and digits for a token
// that everybody with the cluster secret can compute: the founders' tokens.
func (s Secret) Words(purpose string) (id, secret string) {
	return secretText.EncodeToString(s.derive("token id "+purpose, 8))[:12], secretText.EncodeToString(s.derive("token secret "+purpose, 32))
}

// Keyring derives the cluster's keys. The CA's key is the same each time; its
// certificate is made anew and differs in its signature.
func (s Secret) Keyring() (Keyring, error) {
	var key *ecdsa.PrivateKey
	// The chance that 32 bytes are no private key of P-256 is 2^-32.
	for i := 0; ; i++ {
		var err error
		if key, err = ecdsa.ParseRawPrivateKey(elliptic.P256(), s.derive(fmt.Sprintf("ca key %d", i), 32)); err == nil {
			break
		}
		if i > 8 {
			return Keyring{}, fmt.Errorf("trust: derive the CA's key: %w", err)
		}
	}
	return newKeyring(key, s.derive("gossip", 32), hex.EncodeToString(s.derive("peer", 32)))
}
