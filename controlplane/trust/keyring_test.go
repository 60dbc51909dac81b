package trust_test

import (
	"crypto/x509"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/controlplane/trust"
)

var noon = time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)

func newRing(t *testing.T) trust.Keyring {
	t.Helper()
	ring, err := trust.NewSecret().Keyring()
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// verify checks a certificate as a client does that knows the CA.
func verify(ring trust.Keyring, leaf *x509.Certificate, at time.Time, name string) error {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ring.CACert)
	_, err := leaf.Verify(x509.VerifyOptions{Roots: pool, DNSName: name, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}})
	return err
}

func TestAServersCertificateHoldsForItsTimeAndIsRenewedBefore(t *testing.T) {
	ring := newRing(t)
	cert, err := ring.Issue("s-1", []string{"cp1.example.org", "10.0.0.5", ""}, noon)
	if err != nil {
		t.Fatal(err)
	}
	leaf := cert.Leaf
	const day = 24 * time.Hour
	for _, name := range []string{trust.ServerName, "cp1.example.org", "10.0.0.5"} {
		if err := verify(ring, leaf, noon, name); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if verify(ring, leaf, noon, "other.example.org") == nil {
		t.Error("the certificate is good for any name")
	}
	for _, c := range []struct {
		at    time.Time
		valid bool
		due   bool
	}{
		{noon.Add(-2 * day), false, true},
		{noon.Add(-23 * time.Hour), true, false}, // who verifies may have a slow clock
		{noon.Add(59 * day), true, false},
		{noon.Add(61 * day), true, true},
		{noon.Add(89 * day), true, true},
		{noon.Add(91 * day), false, true},
	} {
		if err := verify(ring, leaf, c.at, trust.ServerName); (err == nil) != c.valid {
			t.Errorf("at %s: %v", c.at.Sub(noon), err)
		}
		if trust.Due(cert, c.at) != c.due {
			t.Errorf("at %s due is %v", c.at.Sub(noon), !c.due)
		}
	}
	if !trust.Due(nil, noon) {
		t.Error("a server without a certificate needs none")
	}
	if leaf.IsCA || leaf.CheckSignatureFrom(leaf) == nil {
		t.Error("a server's certificate can sign others")
	}
}

func TestTheCASignsOnlyWhatItIsAskedFor(t *testing.T) {
	ring := newRing(t)
	_, csr, err := trust.Request("s-1", []string{"10.0.0.5"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ring.Sign(csr, "s-2", noon); err == nil || !strings.Contains(err.Error(), "s-2") {
		t.Errorf("a request of s-1 was signed for s-2: %v", err)
	}
	der, err := ring.Sign(csr, "s-1", noon)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil || leaf.Subject.CommonName != "s-1" || len(leaf.IPAddresses) != 1 || !leaf.IPAddresses[0].Equal(net.IPv4(10, 0, 0, 5)) {
		t.Errorf("%+v %v", leaf, err)
	}
	for name, bad := range map[string][]byte{"empty": nil, "cut": csr[:len(csr)-9], "no request": der} {
		if _, err := ring.Sign(bad, "s-1", noon); err == nil {
			t.Errorf("%s was signed", name)
		}
	}
	forged := append([]byte{}, csr...)
	forged[len(forged)-1] ^= 1 // of the signature: whoever asks does not have the key
	if _, err := ring.Sign(forged, "s-1", noon); err == nil {
		t.Error("a request was signed whose sender does not have the key")
	}
}

// The founders of a cluster make the CA's certificate each for itself; what one
// of them signs, all trust.
func TestFoundersTrustEachOther(t *testing.T) {
	secret := trust.NewSecret()
	a, errA := secret.Keyring()
	b, errB := secret.Keyring()
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	cert, err := a.Issue("s-a", nil, noon)
	if err != nil {
		t.Fatal(err)
	}
	if err := verify(b, cert.Leaf, noon, trust.ServerName); err != nil {
		t.Errorf("b does not trust a: %v", err)
	}
	if err := verify(newRing(t), cert.Leaf, noon, trust.ServerName); err == nil {
		t.Error("another cluster trusts a")
	}
}

func TestAKeyringIsReadWhole(t *testing.T) {
	a, b := newRing(t), newRing(t)
	if _, err := trust.OpenKeyring(a.CACert, a.CAKey, a.Gossip, a.Peer); err != nil {
		t.Error(err)
	}
	for what, err := range map[string]error{
		"another's key":    second(trust.OpenKeyring(a.CACert, b.CAKey, a.Gossip, a.Peer)),
		"no certificate":   second(trust.OpenKeyring(nil, a.CAKey, a.Gossip, a.Peer)),
		"no key":           second(trust.OpenKeyring(a.CACert, nil, a.Gossip, a.Peer)),
		"key as cert":      second(trust.OpenKeyring(a.CAKey, a.CAKey, a.Gossip, a.Peer)),
		"short gossip key": second(trust.OpenKeyring(a.CACert, a.CAKey, a.Gossip[:16], a.Peer)),
		"no peer secret":   second(trust.OpenKeyring(a.CACert, a.CAKey, a.Gossip, "")),
	} {
		if err == nil {
			t.Errorf("%s: a keyring", what)
		} else if strings.Contains(err.Error(), a.Peer) {
			t.Errorf("%s: the error tells a secret: %v", what, err)
		}
	}
}

func second(_ trust.Keyring, err error) error { return err }
