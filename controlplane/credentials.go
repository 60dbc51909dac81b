package controlplane

import (
	"context"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/client"
	"github.com/tunemesh/tunemesh/controlplane/trust"
)

// credentials are what a server proves itself with: from the cluster secret, from
// a join token, or from its disk, where both end up.
type credentials struct {
	dir string
	// secret and ring are known to servers that were given the cluster secret;
	// others find the keyring in Raft once they have caught up.
	secret *trust.Secret
	ring   *trust.Keyring
	// peer authenticates calls between servers, gossip encrypts the gossip.
	peer   string
	gossip []byte
	// caCert is PEM; identity is nil without TLS.
	caCert   []byte
	identity *trust.Identity
}

func (c *credentials) path(name string) string { return filepath.Join(c.dir, name) }

// openCredentials finds or makes this server's credentials. hosts are what its
// certificate names beside trust.ServerName.
func (s *Server) openCredentials(ctx context.Context, hosts []string) (*credentials, error) {
	c := &credentials{dir: s.config.Dir}
	if err := c.findSecret(s.config.ClusterSecret, s.founds()); err != nil {
		return nil, err
	}
	switch joined, err := c.load(); {
	case err != nil:
		return nil, err
	case c.secret != nil:
		ring, err := c.secret.Keyring()
		if err != nil {
			return nil, err
		}
		c.ring, c.peer, c.gossip = &ring, ring.Peer, ring.Gossip
		if err := c.loadGossipKey(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		if c.caCert == nil {
			c.caCert = ring.CACert
			if err := writePrivate(c.path("ca.pem"), string(ring.CACert)); err != nil {
				return nil, err
			}
		}
	case joined:
	case s.config.JoinToken != "" && len(s.config.Join) > 0:
		if err := s.admit(ctx, c, hosts); err != nil {
			return nil, err
		}
	default:
		return nil, errors.New("controlplane: this server belongs to no cluster and was told of none: give --bootstrap for a cluster of one, --bootstrap-expect with --join and --cluster-secret-file for a new one of several, or --join with --token-file for one that is there")
	}
	if s.config.PlainHTTP {
		return c, nil
	}
	cert, err := c.loadCertificate()
	if err != nil {
		return nil, err
	}
	if c.ring != nil && (trust.Due(cert, time.Now()) || !names(cert, hosts)) {
		if cert, err = c.ring.Issue(s.id, hosts, time.Now()); err == nil {
			err = c.saveCertificate(cert)
		}
		if err != nil {
			return nil, err
		}
	}
	c.identity, err = trust.NewIdentity(c.caCert, cert)
	return c, err
}

// names says whether a certificate is good for all hosts.
func names(cert *tls.Certificate, hosts []string) bool {
	for _, h := range hosts {
		if cert.Leaf.VerifyHostname(h) != nil {
			return false
		}
	}
	return true
}

// findSecret takes the cluster secret that was given, or that of an earlier
// start; a founder that was given none makes one.
func (c *credentials) findSecret(given string, founds bool) error {
	kept, err := readPrivate(c.path("cluster.secret"))
	switch {
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return err
	case given == "" && kept == "" && !founds:
		return nil
	case given == "" && kept == "":
		given = trust.NewSecret().String()
	case given == "":
		given = kept
	case kept != "" && kept != given:
		return fmt.Errorf("controlplane: the cluster secret is not the one that %s was set up with: this folder belongs to another cluster", c.dir)
	}
	secret, err := trust.ParseSecret(given)
	if err != nil {
		return err
	}
	c.secret = &secret
	if kept == given {
		return nil
	}
	return writePrivate(c.path("cluster.secret"), given)
}

// load reads what an earlier start left; joined says whether there is enough to
// be a server.
func (c *credentials) load() (joined bool, err error) {
	if data, err := os.ReadFile(c.path("ca.pem")); err == nil {
		c.caCert = data
	} else if !errors.Is(err, fs.ErrNotExist) {
		return false, fmt.Errorf("controlplane: %w", err)
	}
	if c.secret != nil {
		return false, nil
	}
	if c.peer, err = readPrivate(c.path("peer.secret")); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, err
	}
	err = c.loadGossipKey()
	return err == nil, err
}

// loadGossipKey reads the key that the gossip was encrypted with last.
func (c *credentials) loadGossipKey() error {
	text, err := readPrivate(c.path("gossip.key"))
	if err != nil {
		return err
	}
	key, err := hex.DecodeString(text)
	if err != nil {
		return fmt.Errorf("controlplane: %s: %w", c.path("gossip.key"), err)
	}
	c.gossip = key
	return nil
}

// admit shows a join token to a server of the cluster and gets what makes this
// one a server too.
func (s *Server) admit(ctx context.Context, c *credentials, hosts []string) error {
	token, err := api.ParseToken(s.config.JoinToken)
	if err != nil {
		return err
	}
	if token.Role != "" && token.Role != api.RoleServer {
		return fmt.Errorf("controlplane: this is a token of role %s; a server joins with one of role server: tunemesh token create --role server", token.Role)
	}
	if !s.config.PlainHTTP && len(token.CA) == 0 {
		return errors.New("controlplane: the token carries no trust (it does not start with M1): take a whole one from `tunemesh token create --role server`")
	}
	request := api.AdmitRequest{ID: s.id, Name: s.config.Name}
	var key *ecdsa.PrivateKey
	if !s.config.PlainHTTP {
		if key, request.CSR, err = trust.Request(s.id, hosts); err != nil {
			return err
		}
	}
	var servers []string
	for _, j := range s.config.Join {
		servers = append(servers, (&peers{scheme: s.scheme()}).base(j))
	}
	cp := client.New(client.Config{Servers: servers, Token: s.config.JoinToken, UserAgent: "tunemesh-server/" + s.config.Version.Version})
	defer cp.Close()
	var reply api.AdmitReply
	for {
		if reply, err = cp.Admit(ctx, request); err == nil {
			break
		}
		var p *api.Problem
		if errors.As(err, &p) && p.Status/100 == 4 && p.Status != http.StatusTooManyRequests {
			return fmt.Errorf("controlplane: the cluster does not admit this server: %w", err)
		}
		s.config.Log.Warn("the cluster cannot be asked to admit this server; trying again", "servers", servers, "err", err)
		if err := pause(ctx, 2*time.Second); err != nil {
			return err
		}
	}
	c.peer, c.gossip, c.caCert = reply.Secret, reply.GossipKey, reply.CA
	if key != nil {
		if public, err := trust.PublicKey(reply.CA); err != nil || string(api.CAPin(public)) != string(token.CA) {
			return errors.New("controlplane: the answer names another CA than the token: somebody stands between")
		}
		cert, err := trust.Certificate(reply.Certificate, reply.CA, key)
		if err != nil {
			return err
		}
		if err := c.saveCertificate(cert); err != nil {
			return err
		}
		if err := writePrivate(c.path("ca.pem"), string(reply.CA)); err != nil {
			return err
		}
	}
	if err := writePrivate(c.path("gossip.key"), hex.EncodeToString(reply.GossipKey)); err != nil {
		return err
	}
	// Last: with it the server counts as joined.
	return writePrivate(c.path("peer.secret"), reply.Secret)
}

func (c *credentials) saveCertificate(cert *tls.Certificate) error {
	key, err := x509.MarshalPKCS8PrivateKey(cert.PrivateKey)
	if err != nil {
		return fmt.Errorf("controlplane: %w", err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Certificate[0]})) +
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key}))
	return writePrivate(c.path("server.pem"), text)
}

// loadCertificate reads the certificate, nil where there is none.
func (c *credentials) loadCertificate() (*tls.Certificate, error) {
	data, err := os.ReadFile(c.path("server.pem"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("controlplane: %w", err)
	}
	pair, err := tls.X509KeyPair(data, data)
	if err != nil {
		return nil, fmt.Errorf("controlplane: %s: %w", c.path("server.pem"), err)
	}
	key, ok := pair.PrivateKey.(*ecdsa.PrivateKey)
	if !ok {
		return nil, fmt.Errorf("controlplane: %s holds a key of another kind", c.path("server.pem"))
	}
	return trust.Certificate(pair.Certificate[0], c.caCert, key)
}

// pin is what tokens carry of the CA; nil without TLS.
func (c *credentials) pin() []byte {
	if c.identity == nil {
		return nil
	}
	public, err := trust.PublicKey(c.caCert)
	if err != nil {
		return nil
	}
	return api.CAPin(public)
}

// pause waits, or returns ctx's error.
func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
