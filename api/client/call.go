package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// maxAnswer bounds an ordinary answer in bytes: a node's whole desired set with
// presigned URLs is the largest, some MiB.
const maxAnswer = 64 << 20

// call is one request in the making.
type call struct {
	method string
	path   string
	query  url.Values
	body   any // encoded as JSON
	// once: a repeat is only safe where the server surely did nothing.
	once    bool
	timeout time.Duration // of one try; 0: the client's
	pack    bool          // the body compresses well and the server unpacks it
	key     string        // Idempotency-Key: a repeat gets the first answer
}

// do runs a call, repeats it where that is safe, and decodes the answer into
// out (nil: thrown away).
func (c *Client) do(ctx context.Context, k call, out any) error {
	var payload []byte
	if k.body != nil {
		var err error
		if payload, err = json.Marshal(k.body); err != nil {
			return wrap(k.method, k.path, fmt.Errorf("encode request: %w", err))
		}
	}
	started := time.Now()
	for n := 0; ; n++ {
		failure := c.try(ctx, k, payload, out)
		if failure == nil {
			return nil
		}
		// An election takes one to two seconds, and its end should be met soon: so
		// many short waits, which are not counted, instead of few that grow.
		if failure.leaderless && c.retries > 0 && ctx.Err() == nil && time.Since(started) < electionTime {
			if sleep(ctx, 1, 0) == nil {
				n--
				continue
			}
		}
		if ctx.Err() != nil || !failure.retry || n >= c.retries || (k.once && !failure.refused) {
			return wrap(k.method, k.path, failure.err)
		}
		if sleep(ctx, n+1, failure.retryAfter) != nil {
			return wrap(k.method, k.path, failure.err)
		}
	}
}

func (c *Client) try(ctx context.Context, k call, payload []byte, out any) *tryError {
	timeout := k.timeout
	if timeout == 0 {
		timeout = c.callTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var body io.Reader
	if payload != nil {
		body = bytes.NewReader(payload)
	}
	packed := k.pack && len(payload) >= packFrom
	if packed {
		body = bytes.NewReader(pack(payload))
	}
	req, err := c.request(ctx, k.method, k.path, k.query, body)
	if err != nil {
		return &tryError{err: err, refused: true}
	}
	if payload != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if packed {
		req.Header.Set("Content-Encoding", "zstd")
	}
	if k.key != "" {
		req.Header.Set("Idempotency-Key", k.key)
	}
	resp, failure := c.send(req)
	if failure != nil {
		return failure
	}
	defer resp.Body.Close()
	return decode(resp, out)
}

// tryJSON is one try of a call.
func (c *Client) tryJSON(ctx context.Context, k call, out any) *tryError {
	var payload []byte
	if k.body != nil {
		var err error
		if payload, err = json.Marshal(k.body); err != nil {
			return &tryError{err: fmt.Errorf("encode request: %w", err), refused: true}
		}
	}
	return c.try(ctx, k, payload, out)
}

// decode reads an answer into out; nil throws it away.
func decode(resp *http.Response, out any) *tryError {
	if out == nil || resp.StatusCode == http.StatusNoContent {
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer))
		return nil
	}
	data, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return &tryError{err: fmt.Errorf("read answer: %w", err), retry: true}
	}
	if len(data) > maxAnswer {
		return &tryError{err: fmt.Errorf("answer is over %d bytes", maxAnswer)}
	}
	if err := json.Unmarshal(data, out); err != nil {
		return &tryError{err: fmt.Errorf("decode answer: %w", err)}
	}
	return nil
}

// request builds a request to the server of the moment.
func (c *Client) request(ctx context.Context, method, path string, query url.Values, body io.Reader) (*http.Request, error) {
	base, err := c.server()
	if err != nil {
		return nil, err
	}
	target := base + path
	if len(query) > 0 {
		target += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, target, body)
	if err != nil {
		return nil, fmt.Errorf("client: request to %q: %w", base, err)
	}
	req.Header.Set("User-Agent", c.userAgent)
	req.Header.Set("Accept", "application/json")
	if token := *c.token.Load(); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	return req, nil
}

// send does one request; an answer of 2xx is returned with its body open.
func (c *Client) send(req *http.Request) (*http.Response, *tryError) {
	base := req.URL.Scheme + "://" + req.URL.Host
	resp, err := c.http.Do(req)
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			// A router on the way that was switched off and on has forgotten all
			// connections, not only this one: a call on another would wait as long.
			c.http.CloseIdleConnections()
		}
		if !errors.Is(err, context.Canceled) { // by the caller, who knows nothing of the server
			c.rotatePrefix(base)
		}
		return nil, &tryError{err: err, retry: true, refused: neverSent(err)}
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	p := readProblem(resp)
	failure := &tryError{err: p}
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		failure.refused = true
		failure.retry = c.renewed(req.Context(), strings.TrimPrefix(req.Header.Get("Authorization"), "Bearer "))
	case http.StatusTooManyRequests:
		failure.retry, failure.refused = true, true
	case http.StatusServiceUnavailable, http.StatusBadGateway, http.StatusGatewayTimeout:
		failure.retry = true
		failure.refused = resp.StatusCode == http.StatusServiceUnavailable && p.Outcome != "unknown"
		failure.leaderless = failure.refused && p.Type == api.ProblemNotLeader
		c.rotatePrefix(base)
	}
	if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s > 0 {
		failure.retryAfter = time.Duration(s) * time.Second
	}
	return nil, failure
}

func (c *Client) rotatePrefix(base string) {
	for _, s := range *c.servers.Load() {
		if s == base || (len(s) > len(base) && s[:len(base)+1] == base+"/") {
			c.rotate(s)
			return
		}
	}
}

// neverSent says whether a request failed before the server could see it.
func neverSent(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "dial"
}

// readProblem turns any error answer into a problem document.
func readProblem(resp *http.Response) *api.Problem {
	data, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	var p api.Problem
	if json.Unmarshal(data, &p) != nil || p.Title == "" {
		p = api.Problem{Title: http.StatusText(resp.StatusCode), Detail: firstLine(data)}
	}
	p.Status = resp.StatusCode
	return &p
}

func firstLine(data []byte) string {
	line, _, _ := bytes.Cut(bytes.TrimSpace(data), []byte("\n"))
	if len(line) > 200 {
		line = line[:200]
	}
	return string(line)
}

func esc(segment string) string { return url.PathEscape(segment) }
