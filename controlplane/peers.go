package controlplane

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// peers calls other servers, as a server.
type peers struct {
	http   *http.Client
	scheme string
	secret func() string
}

func newPeers(tlsConfig *tls.Config, secret func() string) *peers {
	p := &peers{scheme: "http", secret: secret}
	if tlsConfig != nil {
		p.scheme = "https"
	}
	p.http = &http.Client{Transport: &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 2 * time.Second}).DialContext,
		TLSClientConfig:     tlsConfig,
		TLSHandshakeTimeout: 3 * time.Second,
		MaxIdleConnsPerHost: 4,
		IdleConnTimeout:     30 * time.Second,
	}}
	return p
}

// base turns HOST:PORT or a URL into a base URL.
func (p *peers) base(address string) string {
	if strings.Contains(address, "://") {
		return strings.TrimRight(address, "/")
	}
	return p.scheme + "://" + address
}

// call sends in as JSON and decodes the answer into out; an answer that is an
// error is an *api.Problem.
func (p *peers) call(ctx context.Context, method, address, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return fmt.Errorf("controlplane: %w", err)
		}
		body = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, p.base(address)+path, body)
	if err != nil {
		return fmt.Errorf("controlplane: call %s: %w", address, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set(api.PeerHeader, p.secret())
	resp, err := p.http.Do(req)
	if err != nil {
		return fmt.Errorf("controlplane: call the server at %s: %w", address, err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(io.LimitReader(resp.Body, 4<<20))
	if err != nil {
		return fmt.Errorf("controlplane: answer of the server at %s: %w", address, err)
	}
	if resp.StatusCode/100 != 2 {
		problem := &api.Problem{}
		if json.Unmarshal(data, problem) != nil || problem.Title == "" {
			problem.Title = http.StatusText(resp.StatusCode)
		}
		problem.Status = resp.StatusCode
		return fmt.Errorf("controlplane: the server at %s: %w", address, problem)
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(data, out); err != nil {
		return fmt.Errorf("controlplane: answer of the server at %s: %w", address, err)
	}
	return nil
}

func (p *peers) close() { p.http.CloseIdleConnections() }
