package controlplane

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tunemesh/tunemesh/controlplane/trust"
)

const day = 24 * time.Hour

// shakeHands connects a server with itself, as another one of its cluster would,
// and returns until when the certificate is good that it showed.
func shakeHands(i *trust.Identity) (until time.Time, err error) {
	near, far := net.Pipe()
	defer near.Close()
	defer far.Close()
	served := make(chan error, 1)
	go func() { served <- tls.Server(far, i.Serving()).HandshakeContext(context.Background()) }()
	client := tls.Client(near, i.Dialing(trust.ProtocolRaft))
	if err := client.HandshakeContext(context.Background()); err != nil {
		return until, errors.Join(err, <-served)
	}
	return client.ConnectionState().PeerCertificates[0].NotAfter, <-served
}

// A server runs for 240 days, on simulated time: its certificate of 90 days is
// renewed when 30 are left, or as soon as one can be issued again, and each new
// connection meets a good one.
func TestACertificateIsRenewedLongBeforeItEnds(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		// The bubble's clock starts in 2000, the CA's life in 2026.
		time.Sleep(time.Until(time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)))
		ring, err := trust.NewSecret().Keyring()
		if err != nil {
			t.Fatal(err)
		}
		first, err := ring.Issue("s-1", []string{"10.0.0.5"}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		c := &credentials{dir: dir, caCert: ring.CACert}
		if c.identity, err = trust.NewIdentity(ring.CACert, first); err != nil {
			t.Fatal(err)
		}
		began, refused, issued := time.Now(), 0, 0
		life, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.keepYoung(life, slog.New(slog.DiscardHandler), func(now time.Time) (*tls.Certificate, error) {
				if age := now.Sub(began); age > 110*day && age < 140*day { // the second renewal is due at 120
					refused++
					return nil, errors.New("no leader has recorded the keyring")
				}
				issued++
				return ring.Issue("s-1", []string{"10.0.0.5"}, now)
			})
		}()
		least := 90 * day
		for time.Since(began) < 240*day {
			time.Sleep(36 * time.Hour)
			until, err := shakeHands(c.identity)
			if err != nil {
				t.Fatalf("after %s: %v", time.Since(began), err)
			}
			least = min(least, time.Until(until))
		}
		if issued != 3 || refused == 0 {
			t.Errorf("%d certificates in 240 days, want 3; %d tries failed", issued, refused)
		}
		if least < 9*day {
			t.Errorf("a connection met a certificate with %s left, want 9 days at least", least)
		}
		kept, err := c.loadCertificate()
		if err != nil || kept == nil || !kept.Leaf.Equal(c.identity.Current().Leaf) {
			t.Errorf("the next start would not use the newest certificate: %v", err)
		}
		cancel()
		<-done
	})
}
