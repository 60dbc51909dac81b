package hub

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"syscall"
)

// UnavailableError says that the hub failed again and again; later it may not.
type UnavailableError struct {
	Err   error // of the last try
	Tries int
}

func (e *UnavailableError) Error() string {
	hint := "try again later: what has come is kept, and the download goes on from there"
	var reach *reachError
	if errors.As(e.Err, &reach) {
		hint = reachHint
	}
	return fmt.Sprintf("%v (after %d tries); %s", e.Err, e.Tries, hint)
}

// Unwrap gives the last try's error.
func (e *UnavailableError) Unwrap() error { return e.Err }

// reachError says that a request had no answer.
type reachError struct {
	text string
	err  error
}

func (e *reachError) Error() string { return e.text }
func (e *reachError) Unwrap() error { return e.err }

const reachHint = "look at the network, at a proxy (HTTPS_PROXY) and at HF_ENDPOINT, which names the hub"

// noAnswer says why a request had no answer, without the whole of its address, and marks
// what trying again does not change.
func noAnswer(err error) error {
	var request *url.Error
	if !errors.As(err, &request) || errors.Is(err, context.Canceled) {
		return err
	}
	where := "the hub"
	if u, err := url.Parse(request.URL); err == nil {
		where += " at " + u.Scheme + "://" + u.Host
	}
	var dns *net.DNSError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var dated x509.CertificateInvalidError
	why := ""
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		why = "there is no host of that name"
	case errors.As(err, &authority), errors.As(err, &host), errors.As(err, &dated):
		return &Error{Message: fmt.Sprintf("%s has a certificate that is not trusted (%v)", where, request.Err), Hint: "look at HF_ENDPOINT; SSL_CERT_FILE names the certificates to trust"}
	case strings.Contains(request.Err.Error(), "HTTP response to HTTPS"):
		return &Error{Message: where + " speaks http, not https", Hint: "write HF_ENDPOINT with http://"}
	case errors.Is(err, syscall.ECONNREFUSED):
		why = "the connection is refused"
	case request.Timeout():
		why = "it did not answer in time"
	default:
		why = request.Err.Error()
	}
	return &reachError{where + " cannot be reached: " + why, err}
}
