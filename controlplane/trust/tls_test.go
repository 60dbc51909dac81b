package trust_test

import (
	"context"
	"crypto/tls"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/controlplane/trust"
)

func identity(t *testing.T, ring trust.Keyring, id string) *trust.Identity {
	t.Helper()
	cert, err := ring.Issue(id, nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	i, err := trust.NewIdentity(ring.CACert, cert)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// shake connects two ends and returns what each of them saw. Since TLS 1.3 a
// client is done before the server has looked at its certificate, so both count.
func shake(t *testing.T, server, client *tls.Config) (protocol string, serverErr, clientErr error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	l, err := net.Listen("tcp", "127.0.0.1:0") // net.Pipe would block an end that writes an alert
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := l.Accept()
		if err == nil {
			s := tls.Server(conn, server)
			err = s.HandshakeContext(ctx)
			_ = s.Close()
		}
		done <- err
	}()
	conn, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c := tls.Client(conn, client)
	clientErr = c.HandshakeContext(ctx)
	protocol = c.ConnectionState().NegotiatedProtocol
	serverErr = <-done
	_ = c.Close()
	return protocol, serverErr, clientErr
}

func TestOnePortServesRaftAndHTTPByALPN(t *testing.T) {
	ring := newRing(t)
	serving, dialing := identity(t, ring, "s-1"), identity(t, ring, "s-2")
	for _, c := range []struct {
		ask  []string
		want string
	}{{[]string{trust.ProtocolRaft}, trust.ProtocolRaft}, {[]string{"h2", "http/1.1"}, "h2"}, {[]string{"http/1.1"}, "http/1.1"}, {nil, ""}} {
		got, serverErr, clientErr := shake(t, serving.Serving(), dialing.Dialing(c.ask...))
		if serverErr != nil || clientErr != nil || got != c.want {
			t.Errorf("%v: got %q, %v, %v", c.ask, got, serverErr, clientErr)
		}
	}
	if _, serverErr, clientErr := shake(t, serving.Serving(), dialing.Dialing("gopher/1")); serverErr == nil || clientErr == nil {
		t.Error("a protocol that is not served was agreed on")
	}
}

func TestRaftIsForServersOfTheClusterAlone(t *testing.T) {
	ring, other := newRing(t), newRing(t)
	serving := identity(t, ring, "s-1").Serving()
	nobody, err := trust.NewIdentity(ring.CACert, nil) // trusts the cluster, has no certificate yet
	if err != nil {
		t.Fatal(err)
	}
	if _, serverErr, _ := shake(t, serving, nobody.Dialing(trust.ProtocolRaft)); serverErr == nil || !strings.Contains(serverErr.Error(), "servers of the cluster") {
		t.Errorf("Raft without a certificate: %v", serverErr)
	}
	if got, serverErr, clientErr := shake(t, serving, nobody.Dialing("h2")); serverErr != nil || clientErr != nil || got != "h2" {
		t.Errorf("HTTP needs a certificate: %v, %v", serverErr, clientErr)
	}

	// Somebody of another cluster who does not mind whom he reaches.
	stranger := identity(t, other, "s-1").Dialing(trust.ProtocolRaft)
	stranger.InsecureSkipVerify = true
	if _, serverErr, _ := shake(t, serving, stranger); serverErr == nil {
		t.Error("a server of another cluster speaks Raft here")
	}
}

func TestAServerWithAnotherCAIsRefused(t *testing.T) {
	ring, other := newRing(t), newRing(t)
	impostor := identity(t, other, "s-1")
	if _, _, clientErr := shake(t, impostor.Serving(), identity(t, ring, "s-2").Dialing(trust.ProtocolRaft)); clientErr == nil || !strings.Contains(clientErr.Error(), "unknown authority") {
		t.Errorf("a server of another cluster is trusted: %v", clientErr)
	}
}

func TestARenewedCertificateServesFromThenOn(t *testing.T) {
	ring := newRing(t)
	waiting, err := trust.NewIdentity(ring.CACert, nil)
	if err != nil {
		t.Fatal(err)
	}
	client := identity(t, ring, "s-2")
	if _, serverErr, clientErr := shake(t, waiting.Serving(), client.Dialing("h2")); serverErr == nil || clientErr == nil {
		t.Error("a server without a certificate serves")
	}
	config := waiting.Serving() // the listener keeps this one
	first, err := ring.Issue("s-1", nil, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	waiting.Renew(first)
	if _, serverErr, clientErr := shake(t, config, client.Dialing("h2")); serverErr != nil || clientErr != nil {
		t.Errorf("%v, %v", serverErr, clientErr)
	}
	expired, err := ring.Issue("s-1", nil, time.Now().Add(-365*24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	waiting.Renew(expired)
	if waiting.Current() != expired {
		t.Error("the certificate in use is not the one that was given")
	}
	if _, _, clientErr := shake(t, config, client.Dialing("h2")); clientErr == nil || !strings.Contains(clientErr.Error(), "expired") {
		t.Errorf("an expired certificate: %v", clientErr)
	}
}
