package hub

import (
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
)

// DefaultEndpoint is the public hub.
const DefaultEndpoint = "https://huggingface.co"

// Config says where the hub is and how to talk to it.
type Config struct {
	Endpoint string // base URL; default DefaultEndpoint
	Token    string // sent to the endpoint only, never to the hosts it redirects to
	// Client does the requests; nil takes one that waits 30 seconds for an answer's
	// beginning and as long as it takes for its body.
	Client *http.Client
	// Now, Sleep and AfterFunc are the clock; nil takes the real one.
	Now       func() time.Time
	Sleep     func(ctx context.Context, d time.Duration) error
	AfterFunc func(d time.Duration, f func()) Timer
	// Idle is how long a request may bring nothing before it is given up; default 60 s.
	Idle time.Duration
	// Tries is how often a request is made without any progress; default 6.
	Tries int
	// Waiting, if set, hears why a request failed and when it is made again.
	Waiting   func(err error, pause time.Duration)
	UserAgent string
}

// Client speaks to one hub.
type Client struct{ c Config }

// New makes a client. It refuses an endpoint that is no address.
func New(c Config) (*Client, error) {
	if c.Endpoint == "" {
		c.Endpoint = DefaultEndpoint
	}
	if u, err := url.Parse(c.Endpoint); err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, &Error{Message: fmt.Sprintf("HF_ENDPOINT is %q, which is no address of a hub", c.Endpoint), Hint: "write it as " + DefaultEndpoint + ", with http:// or https://"}
	}
	c.Endpoint = strings.TrimRight(c.Endpoint, "/")
	if c.Client == nil {
		t := http.DefaultTransport.(*http.Transport).Clone()
		t.ResponseHeaderTimeout = 30 * time.Second
		c.Client = &http.Client{Transport: t}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	if c.Sleep == nil {
		c.Sleep = func(ctx context.Context, d time.Duration) error {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(d):
				return nil
			}
		}
	}
	if c.AfterFunc == nil {
		c.AfterFunc = func(d time.Duration, f func()) Timer { return time.AfterFunc(d, f) }
	}
	if c.Idle == 0 {
		c.Idle = 60 * time.Second
	}
	if c.Tries == 0 {
		c.Tries = 6
	}
	// net/http keeps the token where a redirect leads to a subdomain, such as that of the
	// hub's own content network, which refuses it beside its signature.
	own := *c.Client
	own.CheckRedirect = func(req *http.Request, via []*http.Request) error {
		if len(via) >= 10 {
			return errors.New("more than ten redirects")
		}
		if req.URL.Host != via[0].URL.Host {
			req.Header.Del("Authorization")
		}
		return nil
	}
	c.Client = &own
	return &Client{c}, nil
}

// Error is an answer of the hub that trying again does not change.
type Error struct {
	Status  int
	Code    string // X-Error-Code: RepoNotFound, GatedRepo, ...
	Message string
	Hint    string // what to do
	cause   error
}

func (e *Error) Unwrap() error { return e.cause }

func (e *Error) Error() string {
	if e.Hint != "" {
		return e.Message + ": " + e.Hint
	}
	return e.Message
}

// file is one of a revision's files.
type file struct {
	Name   string `json:"rfilename"`
	Size   int64  `json:"size"`
	BlobID string `json:"blobId"` // SHA-1 of git's blob, for files that are not in LFS
	LFS    *blob  `json:"lfs"`
}

type blob struct {
	SHA256 string `json:"sha256"`
	Size   int64  `json:"size"`
}

// snapshot is what a revision is.
type snapshot struct {
	Commit string `json:"sha"`
	Files  []file `json:"siblings"`
}

// list asks for a revision's commit and files.
func (c *Client) list(ctx context.Context, s Source) (snapshot, error) {
	var out snapshot
	address := fmt.Sprintf("%s/api/models/%s/revision/%s?blobs=true", c.c.Endpoint, s.Repo, url.PathEscape(s.Revision))
	err := c.try(ctx, func() (bool, error) {
		res, err := c.get(ctx, address, 0, 0)
		var dns *net.DNSError
		if errors.As(err, &dns) && dns.IsNotFound { // later it is the network that went away, here a wrong name
			err = &Error{Message: err.Error(), Hint: reachHint, cause: err}
		}
		if err != nil {
			return false, err
		}
		defer res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return false, c.fault(res, s, "")
		}
		if err := json.NewDecoder(io.LimitReader(res.Body, 64<<20)).Decode(&out); err != nil {
			return false, fmt.Errorf("the list of %s's files: %w", s.Repo, err)
		}
		return true, nil
	})
	if err == nil && (!commit.MatchString(out.Commit) || len(out.Files) == 0) {
		err = &Error{Message: fmt.Sprintf("%s answers without a commit and files for %s: it does not speak the hub's protocol", c.c.Endpoint, s)}
	}
	return out, err
}

// get asks for the bytes of address from from on, up to the byte before to; 0: all.
func (c *Client) get(ctx context.Context, address string, from, to int64) (*http.Response, error) {
	ctx, watch := c.watch(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		watch.end()
		return nil, err
	}
	if c.c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.c.Token)
	}
	if c.c.UserAgent != "" {
		req.Header.Set("User-Agent", c.c.UserAgent)
	}
	req.Header.Set("Accept-Encoding", "identity")
	switch {
	case to > 0:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, to-1))
	case from > 0:
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", from))
	}
	res, err := c.c.Client.Do(req)
	if err != nil {
		watch.end()
		return nil, noAnswer(watch.cause(err))
	}
	res.Body = &watchedBody{res.Body, watch}
	return res, nil
}

// head asks for a file's headers, without following it to another host: the hub's own
// headers have the checksum.
func (c *Client) head(ctx context.Context, address string) (*http.Response, error) {
	ctx, watch := c.watch(ctx)
	defer watch.end()
	req, err := http.NewRequestWithContext(ctx, http.MethodHead, address, nil)
	if err != nil {
		return nil, err
	}
	if c.c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.c.Token)
	}
	req.Header.Set("Accept-Encoding", "identity")
	still := *c.c.Client
	still.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	res, err := still.Do(req)
	if err != nil {
		return nil, noAnswer(watch.cause(err))
	}
	return res, res.Body.Close()
}

// waitError is an answer after which the same request may succeed.
type waitError struct {
	err   error
	after time.Duration // that the server asks for; 0: it does not say
}

func (e *waitError) Error() string { return e.err.Error() }
func (e *waitError) Unwrap() error { return e.err }

// fault makes an error of an answer that is not what was asked for.
func (c *Client) fault(res *http.Response, s Source, name string) error {
	what := s.Repo
	if name != "" {
		what = s.Repo + "/" + name
	}
	e := &Error{Status: res.StatusCode, Code: res.Header.Get("X-Error-Code"), Message: fmt.Sprintf("%s: the hub answers %s", what, res.Status)}
	page := c.c.Endpoint + "/" + s.Repo
	switch {
	case res.StatusCode == http.StatusTooManyRequests || res.StatusCode >= 500:
		return &waitError{e, retryAfter(res.Header.Get("Retry-After"), c.c.Now())}
	case e.Code == "GatedRepo" || res.StatusCode == http.StatusForbidden:
		e.Message = fmt.Sprintf("%s is gated", what)
		e.Hint = fmt.Sprintf("accept its conditions at %s, and set HF_TOKEN to an access token of that account", page)
	case res.StatusCode == http.StatusUnauthorized && c.c.Token == "":
		e.Message = fmt.Sprintf("%s is not there, or not for everyone", what)
		e.Hint = "look at the name; for a private or gated model set HF_TOKEN to an access token"
	case res.StatusCode == http.StatusUnauthorized:
		e.Message = fmt.Sprintf("%s: the hub does not take the token in HF_TOKEN", what)
		e.Hint = "make a new one, or look at the name"
	case e.Code == "RevisionNotFound":
		e.Message = fmt.Sprintf("%s has no revision %s", s.Repo, s.Revision)
		e.Hint = fmt.Sprintf("%s/tree/main names its branches and tags; a commit is written in full, and without @ it is main", page)
	case res.StatusCode == http.StatusNotFound:
		e.Message = fmt.Sprintf("%s is not there", what)
		e.Hint = fmt.Sprintf("look at the name and the revision %s", s.Revision)
	}
	return e
}

// retryAfter reads the header: seconds or a date.
func retryAfter(header string, now time.Time) time.Duration {
	const most = 5 * time.Minute
	if n, err := strconv.Atoi(strings.TrimSpace(header)); err == nil && n > 0 {
		return min(time.Duration(n)*time.Second, most)
	}
	if t, err := http.ParseTime(header); err == nil && t.After(now) {
		return min(t.Sub(now), most)
	}
	return 0
}

// try calls f until it succeeds, fails for good, or has failed Tries times in a row without
// progress, which f tells.
func (c *Client) try(ctx context.Context, f func() (progress bool, err error)) error {
	for failed := 0; ; {
		progress, err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		var final *Error
		var wait *waitError
		isWait := errors.As(err, &wait)
		if !isWait && errors.As(err, &final) {
			return err
		}
		if progress {
			failed = 0
		}
		if failed++; failed >= c.c.Tries {
			return &UnavailableError{err, failed}
		}
		pause := min(time.Second<<(failed-1), time.Minute)
		if isWait && wait.after > 0 {
			pause = wait.after
		}
		if c.c.Waiting != nil {
			c.c.Waiting(err, pause)
		}
		if err := c.c.Sleep(ctx, pause); err != nil {
			return err
		}
	}
}
