package trust

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"slices"
	"time"
)

// ServerName is the name in every server's certificate. Who dials checks it and
// not the host: an address may change, and the CA signs for nobody else.
const ServerName = "server.tunemesh"

// Lifetimes of certificates. A server renews its own when a third is left.
const (
	caLife     = 20 * 365 * 24 * time.Hour
	serverLife = 90 * 24 * time.Hour
	// clockSlack is how far behind a verifier's clock may be.
	clockSlack = 24 * time.Hour
)

// Keyring is the CA with its key, and the two symmetric secrets of a cluster.
type Keyring struct {
	CACert []byte // PEM
	CAKey  []byte // PEM, PKCS #8
	// Gossip encrypts the gossip, 32 bytes.
	Gossip []byte
	// Peer authenticates calls between servers.
	Peer string

	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newKeyring(key *ecdsa.PrivateKey, gossip []byte, peer string) (Keyring, error) {
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return Keyring{}, fmt.Errorf("trust: %w", err)
	}
	id := sha256.Sum256(public)
	// Fixed dates: founders make this certificate each for itself.
	from := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	template := &x509.Certificate{
		SerialNumber: new(big.Int).SetBytes(id[:8]), Subject: pkix.Name{CommonName: "Tunemesh cluster CA"},
		NotBefore: from, NotAfter: from.Add(caLife), SubjectKeyId: id[:20],
		IsCA: true, BasicConstraintsValid: true, MaxPathLenZero: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return Keyring{}, fmt.Errorf("trust: make the CA: %w", err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Keyring{}, fmt.Errorf("trust: %w", err)
	}
	return OpenKeyring(
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), gossip, peer)
}

// OpenKeyring reads a keyring's parts.
func OpenKeyring(caCert, caKey, gossip []byte, peer string) (Keyring, error) {
	k := Keyring{CACert: caCert, CAKey: caKey, Gossip: gossip, Peer: peer}
	var err error
	if k.cert, err = parseCert(caCert); err != nil {
		return k, err
	}
	block, _ := pem.Decode(caKey)
	if block == nil {
		return k, errors.New("trust: the CA's key is no PEM")
	}
	key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return k, fmt.Errorf("trust: the CA's key: %w", err)
	}
	var ok bool
	if k.key, ok = key.(*ecdsa.PrivateKey); !ok || !k.key.PublicKey.Equal(k.cert.PublicKey) {
		return k, errors.New("trust: the CA's key does not belong to its certificate")
	}
	if len(gossip) != 32 || peer == "" {
		return k, errors.New("trust: the keyring is not whole")
	}
	return k, nil
}

func parseCert(data []byte) (*x509.Certificate, error) {
	block, _ := pem.Decode(data)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("trust: the CA is no PEM certificate")
	}
	c, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("trust: the CA: %w", err)
	}
	return c, nil
}

// PublicKey is the CA's public key in DER, of which tokens carry the hash.
func PublicKey(caCert []byte) ([]byte, error) {
	c, err := parseCert(caCert)
	if err != nil {
		return nil, err
	}
	return c.RawSubjectPublicKeyInfo, nil
}

// IsPeer says whether a caller knows the secret of the servers.
func (k Keyring) IsPeer(secret string) bool {
	return k.Peer != "" && subtle.ConstantTimeCompare([]byte(secret), []byte(k.Peer)) == 1
}

// Request makes a server's key and the request for its certificate. hosts are
// names and addresses under which browsers and curl may call it.
func Request(id string, hosts []string) (key *ecdsa.PrivateKey, csr []byte, err error) {
	if key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, nil, fmt.Errorf("trust: %w", err)
	}
	template := &x509.CertificateRequest{Subject: pkix.Name{CommonName: id}}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else if h != "" {
			template.DNSNames = append(template.DNSNames, h)
		}
	}
	if csr, err = x509.CreateCertificateRequest(rand.Reader, template, key); err != nil {
		return nil, nil, fmt.Errorf("trust: request a certificate: %w", err)
	}
	return key, csr, nil
}

// Sign issues a server's certificate (DER) for a request. The common name must be
// the server's id; of the names only the request's own are taken, and
// ServerName.
func (k Keyring) Sign(csr []byte, id string, now time.Time) ([]byte, error) {
	r, err := x509.ParseCertificateRequest(csr)
	if err == nil {
		err = r.CheckSignature()
	}
	if err != nil {
		return nil, fmt.Errorf("trust: the certificate request: %w", err)
	}
	if r.Subject.CommonName != id {
		return nil, fmt.Errorf("trust: the certificate request is for %q, not for %q", r.Subject.CommonName, id)
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("trust: %w", err)
	}
	names := append([]string{ServerName}, r.DNSNames...)
	slices.Sort(names)
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: id},
		NotBefore: now.Add(-clockSlack), NotAfter: now.Add(serverLife),
		DNSNames: slices.Compact(names), IPAddresses: r.IPAddresses,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, k.cert, r.PublicKey, k.key)
	if err != nil {
		return nil, fmt.Errorf("trust: sign a server's certificate: %w", err)
	}
	return der, nil
}

// Issue makes a key and a certificate in one, for a server that holds the CA.
func (k Keyring) Issue(id string, hosts []string, now time.Time) (*tls.Certificate, error) {
	key, csr, err := Request(id, hosts)
	if err != nil {
		return nil, err
	}
	der, err := k.Sign(csr, id, now)
	if err != nil {
		return nil, err
	}
	return Certificate(der, k.CACert, key)
}

// Certificate puts a server's certificate, its CA and its key together. The CA
// goes with it: who has only its hash, from a token, must see it.
func Certificate(der, caCert []byte, key crypto.Signer) (*tls.Certificate, error) {
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("trust: the server's certificate: %w", err)
	}
	ca, err := parseCert(caCert)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der, ca.Raw}, PrivateKey: key, Leaf: leaf}, nil
}

// Due says whether a certificate should be renewed.
func Due(c *tls.Certificate, now time.Time) bool {
	return c == nil || c.Leaf == nil || now.After(c.Leaf.NotAfter.Add(-serverLife/3)) || now.Before(c.Leaf.NotBefore)
}
