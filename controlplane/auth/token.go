package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// A token is tm_ID_SECRET: the id finds the hash, the secret of 130 random bits
// makes a plain SHA-256 enough (there is nothing to guess, so nothing to slow
// down).
const (
	prefix   = "tm_"
	idLength = 12
	maxToken = 256
)

// Errors of Authenticate.
var (
	ErrNoToken  = errors.New("no bearer token")
	ErrBadToken = errors.New("the token is not valid")
)

// NewToken makes a token for a role. The string is shown once and kept nowhere;
// the api.Token holds its hash.
func NewToken(name string, role api.Role, at time.Time) (string, api.Token) {
	id := strings.ToLower(rand.Text()[:idLength])
	return WithSecret(id, strings.ToLower(rand.Text()), name, role, at)
}

// WithSecret is NewToken for an id and a secret that are given, so that a token
// can be agreed on before the mesh exists.
func WithSecret(id, secret, name string, role api.Role, at time.Time) (string, api.Token) {
	return prefix + id + "_" + secret, api.Token{ID: id, Name: name, Role: role, Hash: hash(secret), CreatedAt: at.UTC()}
}

func hash(secret string) []byte {
	sum := sha256.Sum256([]byte(secret))
	return sum[:]
}

// split takes a token apart.
func split(token string) (id, secret string, ok bool) {
	if len(token) > maxToken {
		return "", "", false
	}
	rest, ok := strings.CutPrefix(token, prefix)
	if !ok {
		return "", "", false
	}
	id, secret, ok = strings.Cut(rest, "_")
	return id, secret, ok && id != "" && secret != ""
}

// Tokens finds a token by its id.
type Tokens interface {
	Token(id string) (api.Token, error)
}

// Authenticate returns whose token it is.
func Authenticate(tokens Tokens, token string) (api.Token, error) {
	id, secret, ok := split(token)
	if !ok {
		return api.Token{}, ErrBadToken
	}
	t, err := tokens.Token(id)
	// An unknown id takes as long as a wrong secret.
	want := t.Hash
	if err != nil || len(want) != sha256.Size {
		want = make([]byte, sha256.Size)
	}
	same := subtle.ConstantTimeCompare(hash(secret), want) == 1
	if err != nil || !same {
		return api.Token{}, ErrBadToken
	}
	t.Hash = nil
	return t, nil
}

// Bearer returns the token of an Authorization header (RFC 6750). A token with
// the trust that it carries counts as well: whoever pastes it into another
// program's configuration, as for Prometheus, pastes all of it.
func Bearer(header string) (string, error) {
	if header == "" {
		return "", ErrNoToken
	}
	scheme, token, ok := strings.Cut(header, " ")
	if !ok || !strings.EqualFold(scheme, "Bearer") || strings.TrimSpace(token) == "" {
		return "", fmt.Errorf("%w: the Authorization header must be: Bearer TOKEN", ErrBadToken)
	}
	whole, err := api.ParseToken(token)
	if err != nil {
		return "", fmt.Errorf("%w: %w", ErrBadToken, err)
	}
	return whole.Bearer, nil
}
