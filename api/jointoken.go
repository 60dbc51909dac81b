package api

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
)

// A token may come with the trust it is to be used in:
//
//	M1<64 hex digits>::<role>:<id>_<secret>
//
// The digits are the SHA-256 of the cluster CA's public key (DER,
// SubjectPublicKeyInfo). Whoever has the token can check that a server belongs
// to the cluster, so that one paste gives authentication and trust.
const (
	joinPrefix  = "M1"
	plainPrefix = "tm_"
)

// JoinToken is a token with the trust that it carries.
type JoinToken struct {
	// CA is the SHA-256 of the CA's public key; nil: the token carries none.
	CA   []byte
	Role Role // empty where the token does not say it
	// Bearer is what is sent to the server: tm_ID_SECRET.
	Bearer string
}

// CAPin returns the SHA-256 of a CA's public key in DER, as JoinToken.CA has it.
func CAPin(subjectPublicKeyInfo []byte) []byte {
	sum := sha256.Sum256(subjectPublicKeyInfo)
	return sum[:]
}

// ParseToken reads a token in either form. Its errors never contain the token.
func ParseToken(s string) (JoinToken, error) {
	s = strings.TrimSpace(s)
	rest, pinned := strings.CutPrefix(s, joinPrefix)
	if !pinned {
		return JoinToken{Bearer: s}, nil
	}
	pin, rest, ok := strings.Cut(rest, "::")
	role, secret, ok2 := strings.Cut(rest, ":")
	if !ok || !ok2 || role == "" || secret == "" {
		return JoinToken{}, errors.New("the token is not whole: want M1<64 hex digits>::<role>:<secret>")
	}
	ca, err := hex.DecodeString(pin)
	if err != nil || len(ca) != sha256.Size {
		return JoinToken{}, fmt.Errorf("the token is not whole: %d characters between M1 and ::, want 64 hex digits", len(pin))
	}
	return JoinToken{CA: ca, Role: Role(role), Bearer: plainPrefix + secret}, nil
}

// String writes the token in the form that carries what it has.
func (t JoinToken) String() string {
	if len(t.CA) == 0 {
		return t.Bearer
	}
	return joinPrefix + hex.EncodeToString(t.CA) + "::" + string(t.Role) + ":" + strings.TrimPrefix(t.Bearer, plainPrefix)
}
