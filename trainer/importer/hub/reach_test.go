package hub_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/tunemesh/tunemesh/trainer/importer/hub"
)

// What is no address is refused before anything is asked.
func TestAnEndpointIsAnAddress(t *testing.T) {
	for _, endpoint := range []string{"127.0.0.1:8080", "localhost:8080", "hub.example", "ftp://hub.example", "https://", "http://%zz"} {
		_, err := hub.New(hub.Config{Endpoint: endpoint})
		if err == nil || !strings.Contains(err.Error(), "HF_ENDPOINT") || !strings.Contains(err.Error(), endpoint) || !strings.Contains(err.Error(), "http://") {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
	for _, endpoint := range []string{"", "https://huggingface.co", "http://127.0.0.1:8080/hub/"} {
		if _, err := hub.New(hub.Config{Endpoint: endpoint}); err != nil {
			t.Errorf("%s: %v", endpoint, err)
		}
	}
}

// unreachable asks a hub that does not answer, and gives what was said while it was waited for.
func unreachable(t *testing.T, endpoint string, transport *http.Transport) (said []string, err error) {
	t.Helper()
	defer transport.CloseIdleConnections()
	c := client(t, hub.Config{Endpoint: endpoint, Client: &http.Client{Transport: transport},
		Sleep:   func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
		Waiting: func(err error, pause time.Duration) { said = append(said, err.Error()+", "+pause.String()) }})
	src, err := hub.Parse("hf:org/model")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Fetch(context.Background(), src, t.TempDir(), hub.Hooks{})
	return said, err
}

// A hub that cannot be reached is waited for, which is said, and then named, with what to look
// at.
func TestAHubThatCannotBeReached(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	endpoint := "http://" + l.Addr().String()
	said, err := unreachable(t, endpoint, &http.Transport{})
	var gone *hub.UnavailableError
	if !errors.As(err, &gone) || !strings.Contains(err.Error(), "the hub at "+endpoint+" cannot be reached: the connection is refused (after 6 tries)") || !strings.Contains(err.Error(), "HF_ENDPOINT") {
		t.Errorf("%v", err)
	}
	if len(said) != 5 || !strings.Contains(said[0], "the connection is refused, 1s") || !strings.HasSuffix(said[4], ", 16s") {
		t.Errorf("said %q", said)
	}
}

// What waiting does not change is said at once: a wrong name, a certificate, the wrong scheme.
func TestWhatWaitingDoesNotChange(t *testing.T) {
	silent := &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		return nil, &net.DNSError{Err: "no such host", Name: "hub.example", IsNotFound: true}
	}}
	tls, plain := httptest.NewUnstartedServer(http.NotFoundHandler()), httptest.NewServer(http.NotFoundHandler())
	tls.Config.ErrorLog = quiet()
	tls.StartTLS()
	defer tls.Close()
	defer plain.Close()
	for endpoint, c := range map[string]struct {
		transport *http.Transport
		want      string
	}{
		"https://hub.example": {silent, "there is no host of that name"},
		tls.URL:               {&http.Transport{}, "SSL_CERT_FILE"},
		strings.Replace(plain.URL, "http:", "https:", 1): {&http.Transport{}, "speaks http, not https"},
	} {
		said, err := unreachable(t, endpoint, c.transport)
		var fault *hub.Error
		if !errors.As(err, &fault) || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "HF_ENDPOINT") || len(said) > 0 {
			t.Errorf("%s: %v after %q, want %q", endpoint, err, said, c.want)
		}
	}
}
