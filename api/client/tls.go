package client

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/tunemesh/tunemesh/api"
)

// serverName stands in the certificate of every server of a cluster with a CA of
// its own; it is checked in place of the host, which may be any address.
const serverName = "server.tunemesh"

// PinnedTLS trusts exactly the servers of the cluster whose CA has this public
// key (see api.JoinToken): the server shows its CA beside its own certificate.
func PinnedTLS(pin []byte) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		// The usual check needs the CA, and of that only the hash is known before
		// the handshake: VerifyConnection checks everything instead.
		InsecureSkipVerify: true,
		VerifyConnection: func(s tls.ConnectionState) error {
			return verifyPinned(s.PeerCertificates, pin)
		},
	}
}

// ErrWrongCA: the server belongs to another cluster than the token, or is none.
var ErrWrongCA = errors.New("the server does not belong to the cluster of this token")

func verifyPinned(chain []*x509.Certificate, pin []byte) error {
	if len(chain) == 0 {
		return fmt.Errorf("client: %w: it shows no certificate", ErrWrongCA)
	}
	for _, ca := range chain[1:] {
		if !bytes.Equal(api.CAPin(ca.RawSubjectPublicKeyInfo), pin) {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(ca)
		if _, err := chain[0].Verify(x509.VerifyOptions{Roots: roots, DNSName: serverName, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
			return fmt.Errorf("client: the server's certificate: %w", err)
		}
		return nil
	}
	return fmt.Errorf("client: %w: its certificate is not of the CA that the token names", ErrWrongCA)
}
