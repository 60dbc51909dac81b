package trust

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"sync/atomic"
)

// Protocols of the one port, by ALPN (RFC 7301).
const (
	ProtocolRaft = "tunemesh-raft/1"
	protocolH2   = "h2"
	protocolH1   = "http/1.1"
)

// Identity is a server's certificate and CA, which may be renewed while it runs.
type Identity struct {
	pool *x509.CertPool
	cert atomic.Pointer[tls.Certificate]
}

// NewIdentity returns a server's identity. cert may be nil until Renew.
func NewIdentity(caCert []byte, cert *tls.Certificate) (*Identity, error) {
	ca, err := parseCert(caCert)
	if err != nil {
		return nil, err
	}
	i := &Identity{pool: x509.NewCertPool()}
	i.pool.AddCert(ca)
	i.cert.Store(cert)
	return i, nil
}

// Renew replaces the certificate for connections to come.
func (i *Identity) Renew(cert *tls.Certificate) { i.cert.Store(cert) }

// Current is the certificate in use.
func (i *Identity) Current() *tls.Certificate { return i.cert.Load() }

var errNoCertificate = errors.New("trust: this server has no certificate yet")

// Serving is for the listener of the one port. Who speaks Raft must show a
// server's certificate; others need none.
func (i *Identity) Serving() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12,
		NextProtos: []string{ProtocolRaft, protocolH2, protocolH1},
		ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: i.pool,
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
			if c := i.cert.Load(); c != nil {
				return c, nil
			}
			return nil, errNoCertificate
		},
		VerifyConnection: func(s tls.ConnectionState) error {
			if s.NegotiatedProtocol != ProtocolRaft {
				return nil
			}
			if len(s.VerifiedChains) == 0 {
				return errors.New("trust: Raft is for servers of the cluster: no certificate was shown")
			}
			if err := s.PeerCertificates[0].VerifyHostname(ServerName); err != nil {
				return fmt.Errorf("trust: Raft is for servers of the cluster: %w", err)
			}
			return nil
		},
	}
}

// Dialing is for connections to other servers, with HTTP or, given ProtocolRaft,
// with Raft.
func (i *Identity) Dialing(protocols ...string) *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, NextProtos: protocols, RootCAs: i.pool, ServerName: ServerName,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			if c := i.cert.Load(); c != nil {
				return c, nil
			}
			return &tls.Certificate{}, nil
		},
	}
}
