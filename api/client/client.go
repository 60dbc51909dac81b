package client

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// Config says where the servers are and who calls.
type Config struct {
	// Servers are base URLs, http://host:port; at least one.
	Servers []string
	// Token is the bearer token; empty sends none.
	Token string
	// HTTP does the requests; nil takes one with sane dial time-outs. It must not
	// have a total Timeout: streams and uploads take as long as they take.
	HTTP *http.Client
	// UserAgent names the caller.
	UserAgent string
	// Retries is how often a repeatable call is tried again; 0 means 6 (about
	// ten seconds: an election takes one to two), negative means never.
	Retries int
	// CallTimeout bounds one try of an ordinary call; 0 means 30 s. Long polls,
	// uploads and streams are not bound by it.
	CallTimeout time.Duration
}

// Bounds of the wait between two tries.
const (
	backoffFirst  = 150 * time.Millisecond
	backoffMost   = 5 * time.Second
	retryAfterMax = 30 * time.Second
)

// Client calls the control plane. It is safe for concurrent use and holds no
// goroutine of its own.
type Client struct {
	servers     []string
	token       string
	http        *http.Client
	userAgent   string
	retries     int
	callTimeout time.Duration
	current     atomic.Uint32 // index of the server that answered last
}

// New returns a client. It sends nothing yet; without any server every call
// fails with a clear error.
func New(c Config) *Client {
	out := &Client{token: c.Token, http: c.HTTP, userAgent: c.UserAgent, retries: c.Retries, callTimeout: c.CallTimeout}
	for _, s := range c.Servers {
		out.servers = append(out.servers, strings.TrimRight(s, "/"))
	}
	if out.http == nil {
		out.http = &http.Client{Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
			TLSHandshakeTimeout:   10 * time.Second,
			MaxIdleConnsPerHost:   16,
			IdleConnTimeout:       90 * time.Second,
			ExpectContinueTimeout: time.Second,
		}}
	}
	if out.userAgent == "" {
		out.userAgent = "tunemesh-client"
	}
	switch {
	case out.retries == 0:
		out.retries = 6
	case out.retries < 0:
		out.retries = 0
	}
	if out.callTimeout == 0 {
		out.callTimeout = 30 * time.Second
	}
	return out
}

// server returns the base URL to try now.
func (c *Client) server() (string, error) {
	if len(c.servers) == 0 {
		return "", errors.New("client: no server given: name one with --server or TUNEMESH_SERVER")
	}
	return c.servers[int(c.current.Load())%len(c.servers)], nil
}

// rotate makes the next call go to another server than failed.
func (c *Client) rotate(failed string) {
	i := c.current.Load()
	if c.servers[int(i)%len(c.servers)] == failed {
		c.current.CompareAndSwap(i, i+1)
	}
}

// tryError is what one try came to, with what the retry loop needs to know.
type tryError struct {
	err error
	// refused: the server surely did nothing. Otherwise the outcome is unknown.
	refused    bool
	retry      bool
	retryAfter time.Duration
}

// sleep waits before try n (from 1), at least as long as the server asked.
func sleep(ctx context.Context, n int, atLeast time.Duration) error {
	most := backoffFirst << min(n-1, 10)
	if most > backoffMost {
		most = backoffMost
	}
	wait := min(atLeast, retryAfterMax) + time.Duration(rand.Int64N(int64(most)))
	t := time.NewTimer(wait)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// problemOf returns the problem document in an error's chain.
func problemOf(err error) (*api.Problem, bool) {
	var p *api.Problem
	ok := errors.As(err, &p)
	return p, ok
}

// IsStale says whether a call was refused because its attempt has moved on: the
// agent must stop the process and forget the fence.
func IsStale(err error) bool {
	p, ok := problemOf(err)
	return ok && p.Type == api.ProblemStaleFence
}

// IsNotFound says whether the server does not know what was asked for.
func IsNotFound(err error) bool {
	p, ok := problemOf(err)
	return ok && p.Status == http.StatusNotFound
}

// IsUnknownOutcome says whether a write may or may not have taken effect.
func IsUnknownOutcome(err error) bool {
	p, ok := problemOf(err)
	return ok && p.Outcome == "unknown"
}

func wrap(method, path string, err error) error {
	return fmt.Errorf("%s %s: %w", method, path, err)
}
