package controlplane

import (
	"context"
	"crypto/tls"
	"log/slog"
	"time"

	"github.com/tunemesh/tunemesh/controlplane/trust"
)

// renewEvery is how often a server looks whether its certificate is due.
const renewEvery = 10 * time.Minute

// renewCertificate keeps the certificate young, once the keyring is known.
func (s *Server) renewCertificate(life context.Context, hosts []string) {
	s.creds.keepYoung(life, s.config.Log, func(now time.Time) (*tls.Certificate, error) {
		ring, err := s.keyring()
		if err != nil {
			return nil, err
		}
		return ring.Issue(s.id, hosts, now)
	})
}

// keepYoung has a new certificate issued whenever the one in use is due, uses it
// for connections to come, and keeps it for the next start. What fails is tried
// again: a third of its life is left then.
func (c *credentials) keepYoung(life context.Context, log *slog.Logger, issue func(now time.Time) (*tls.Certificate, error)) {
	for pause(life, renewEvery) == nil {
		if !trust.Due(c.identity.Current(), time.Now()) {
			continue
		}
		cert, err := issue(time.Now())
		if err == nil {
			c.identity.Renew(cert)
			err = c.saveCertificate(cert)
		}
		if err != nil {
			log.Warn("this server's certificate cannot be renewed", "err", err)
			continue
		}
		log.Info("this server's certificate was renewed", "until", cert.Leaf.NotAfter)
	}
}
