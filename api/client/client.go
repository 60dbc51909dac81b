package client

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// Config says where the servers are and who calls.
type Config struct {
	// Servers are base URLs, http://host:port; at least one.
	Servers []string
	// Token is the bearer token, in either form of api.ParseToken; empty sends
	// none. One that carries the cluster's CA decides which servers are trusted,
	// unless HTTP is given.
	Token string
	// HTTP does the requests; nil takes one with sane dial time-outs. It must not
	// have a total Timeout: streams and uploads take as long as they take.
	HTTP *http.Client
	// UserAgent names the caller.
	UserAgent string
	// Retries is how often a repeatable call is tried again; 0 means 6 (about
	// ten seconds: an election takes one to two), negative means never.
	Retries int
	// Renew gets another token when a server does not accept the one that was
	// sent; nil: there is none to be had. It must not use this client.
	Renew func(ctx context.Context) (token string, err error)
	// CallTimeout bounds one try of an ordinary call; 0 means 30 s. Long polls,
	// uploads and streams are not bound by it.
	CallTimeout time.Duration
}

// Bounds of the wait between two tries.
const (
	backoffFirst  = 150 * time.Millisecond
	backoffMost   = 5 * time.Second
	retryAfterMax = 30 * time.Second
	// electionTime is how long a cluster without a leader is asked often.
	electionTime = 10 * time.Second
)

// Client calls the control plane. It is safe for concurrent use and holds no
// goroutine of its own.
type Client struct {
	servers     atomic.Pointer[[]string]
	renew       func(ctx context.Context) (string, error)
	renewing    chan struct{} // has room for the one who renews the token
	token       atomic.Pointer[string]
	invalid     error // what is wrong with the configuration
	http        *http.Client
	userAgent   string
	retries     int
	callTimeout time.Duration
	current     atomic.Uint32 // index of the server that answered last
}

// New returns a client. It sends nothing yet; without any server every call
// fails with a clear error.
func New(c Config) *Client {
	out := &Client{http: c.HTTP, userAgent: c.UserAgent, retries: c.Retries, callTimeout: c.CallTimeout, renewing: make(chan struct{}, 1)}
	token, err := api.ParseToken(c.Token)
	if err != nil {
		out.invalid = fmt.Errorf("client: %w", err)
	}
	out.token.Store(&token.Bearer)
	out.renew = c.Renew
	out.servers.Store(&[]string{})
	out.AddServers(c.Servers)
	if out.http == nil {
		var secure *tls.Config
		if len(token.CA) > 0 {
			secure = PinnedTLS(token.CA)
		}
		out.http = &http.Client{Transport: &http.Transport{
			TLSClientConfig:       secure,
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: 5 * time.Second, KeepAliveConfig: keepAlive}).DialContext,
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

// keepAlive ends a connection that is dead and tells nobody 25 s after its last
// packet, such as one that a router on the way has forgotten: a poll for assignments
// would wait on it for a minute while its node is alive on others. A probe every
// 10 s keeps the connection in the tables of such routers, too.
var keepAlive = net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 3}

// SetToken replaces the bearer token, in either form, for calls to come. The CA
// that is trusted stays the one of the first.
func (c *Client) SetToken(token string) error {
	t, err := api.ParseToken(token)
	if err != nil {
		return fmt.Errorf("client: %w", err)
	}
	c.token.Store(&t.Bearer)
	return nil
}

// Close lets idle connections go. The client can still be used.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// AddServers adds base URLs to try when those known before do not answer.
func (c *Client) AddServers(more []string) {
	for {
		old := c.servers.Load()
		all := slices.Clone(*old)
		for _, s := range more {
			if s = strings.TrimRight(s, "/"); !slices.Contains(all, s) {
				all = append(all, s)
			}
		}
		if c.servers.CompareAndSwap(old, &all) {
			return
		}
	}
}

// server returns the base URL to try now.
func (c *Client) server() (string, error) {
	if c.invalid != nil {
		return "", c.invalid
	}
	servers := *c.servers.Load()
	if len(servers) == 0 {
		return "", errors.New("client: no server given: name one with --server or TUNEMESH_SERVER")
	}
	return servers[int(c.current.Load())%len(servers)], nil
}

// rotate makes the next call go to another server than failed.
func (c *Client) rotate(failed string) {
	i := c.current.Load()
	if servers := *c.servers.Load(); servers[int(i)%len(servers)] == failed {
		c.current.CompareAndSwap(i, (i+1)%uint32(len(servers)))
	}
}

// renewed gets another token in place of one that was refused; true where there
// is one to try.
func (c *Client) renewed(ctx context.Context, refused string) bool {
	if c.renew == nil {
		return false
	}
	select {
	case c.renewing <- struct{}{}:
	case <-ctx.Done():
		return false
	}
	defer func() { <-c.renewing }()
	if *c.token.Load() != refused {
		return true // somebody else got one
	}
	token, err := c.renew(ctx)
	return err == nil && c.SetToken(token) == nil
}

// tryError is what one try came to, with what the retry loop needs to know.
type tryError struct {
	err error
	// refused: the server surely did nothing. Otherwise the outcome is unknown.
	refused bool
	// leaderless: it did nothing because nobody leads.
	leaderless bool
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

// CallError is a call or a transfer that came to nothing. Err says why: an
// *api.Problem where a server refused, an error of the network where none
// answered or the connection broke, one of the file system where this side could
// not read or write.
type CallError struct {
	What string // "GET /v1/jobs", "download merged/model.safetensors"
	Err  error
}

func (e *CallError) Error() string { return e.What + ": " + e.Err.Error() }

// Unwrap gives the cause.
func (e *CallError) Unwrap() error { return e.Err }

func wrap(method, path string, err error) error { return &CallError{method + " " + path, err} }
