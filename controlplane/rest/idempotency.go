package rest

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/auth"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// Requests that make something may carry an Idempotency-Key
// (draft-ietf-httpapi-idempotency-key-header): the same caller's same key with
// the same body gets the first answer, with another body a 422. No table of keys
// is kept: the id of what is made follows from caller and key, so that what was
// made is the memory of it, on every server and in every snapshot, and takes no
// more room. What else POSTs change needs no key: a dataset's id follows from its
// bytes, a model's from its name, and to cancel, resume, drain or revoke twice is
// to do it once.

// keyReused is the answer to a key that comes with another body.
func keyReused() error {
	p := problem(http.StatusUnprocessableEntity, api.ProblemInvalid, "this Idempotency-Key was used for another request")
	p.Hint = "a key belongs to one request and its repeats: take another for another request"
	return p
}

// reused turns a conflict over an id that follows from a key into keyReused.
func reused(err error) error {
	if errors.Is(err, state.ErrConflict) {
		return keyReused()
	}
	return err
}

// tokenText is how ids and secrets of tokens are written.
var tokenText = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// tokenMaker makes the token of a key. Its secret can be made again, as the
// answer to a repeat, by who knows the caller's own token, the servers' secret
// and when the token was made, and is kept nowhere. A token that was revoked and
// is made anew by the same key has another secret, since it has another time.
type tokenMaker struct {
	id     string
	secret []byte
}

func (s *Server) tokenMaker(ctx context.Context, key, authorization string) (tokenMaker, error) {
	bearer, err := auth.Bearer(authorization)
	if err != nil {
		return tokenMaker{}, err
	}
	ring, err := s.Store.Keyring()
	if err != nil && !errors.Is(err, state.ErrNotFound) {
		return tokenMaker{}, err
	}
	sum := sha256.Sum256([]byte("tunemesh token\x00" + auth.Caller(ctx).ID + "\x00" + key))
	h := hmac.New(sha256.New, []byte(ring.PeerSecret+"\x00"+bearer))
	h.Write([]byte("tunemesh token secret\x00" + key))
	return tokenMaker{id: tokenText.EncodeToString(sum[:])[:12], secret: h.Sum(nil)}, nil
}

// token returns the token that was, or would be, made at a time.
func (k tokenMaker) token(name string, role api.Role, at time.Time) (string, api.Token) {
	h := hmac.New(sha256.New, k.secret)
	h.Write(binary.BigEndian.AppendUint64([]byte(k.id), uint64(at.UnixNano())))
	return auth.WithSecret(k.id, tokenText.EncodeToString(h.Sum(nil))[:26], name, role, at)
}

// again returns the secret of a token that was made by this key, if it was made
// for the same request.
func (k tokenMaker) again(have, want api.Token) (string, error) {
	secret, made := k.token(have.Name, have.Role, have.CreatedAt)
	same := have.Name == want.Name && have.Role == want.Role && have.MaxUses == want.MaxUses && have.NodeID == "" &&
		have.ExpiresAt.IsZero() == want.ExpiresAt.IsZero() && (have.ExpiresAt.IsZero() || have.ExpiresAt.Sub(have.CreatedAt) == want.ExpiresAt.Sub(want.CreatedAt))
	if !same || !bytes.Equal(made.Hash, have.Hash) {
		return "", keyReused()
	}
	return secret, nil
}

// hasKey says whether a request carries a key.
func hasKey(key string) bool { return strings.TrimSpace(key) != "" }
