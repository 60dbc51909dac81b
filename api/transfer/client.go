package transfer

import (
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

var (
	// ErrStalled: no byte has moved for so long that the connection is taken for
	// dead.
	ErrStalled = errors.New("the transfer stalled")
	// ErrChanged: a file is not what it was when it was hashed.
	ErrChanged = errors.New("the file changed while it was uploaded")
	// ErrCorrupt: what came does not have the hash that it should have.
	ErrCorrupt = errors.New("wrong bytes")
)

// Defaults of a Client.
const (
	stallTime = time.Minute
	tries     = 6
	patience  = 30 * time.Minute
)

// answerFactor is how many times longer the answer to an upload may take than a
// single byte: what the system has buffered is still on its way, and the store
// puts the file to disk.
const answerFactor = 5

// Client makes the requests. Its zero value is not usable: HTTP must be set.
type Client struct {
	// HTTP must have no total Timeout: a transfer takes as long as it takes.
	HTTP *http.Client
	// Stall is how long no byte may move before a request is broken off; 0: a
	// minute. It grows with every stall of a transfer.
	Stall time.Duration
	// Backoff is the pause after the n-th failure in a row, n from 0; nil: 200 ms,
	// doubled up to 10 s.
	Backoff func(n int) time.Duration
	// Tries is how often in a row a download may bring nothing; 0: 6.
	Tries int
	// Patience is how long an upload may not succeed; 0: 30 minutes. What was
	// computed for hours deserves some waiting.
	Patience time.Duration
	// Moved, if set, hears of bytes that were moved; less than zero where they
	// have to be moved again. It is called from several goroutines.
	Moved func(n int64)
}

func (c Client) stall() time.Duration { return cmp.Or(c.Stall, stallTime) }

// patientMost is how many times longer than Stall a store that seems to hang may
// get in the end.
const patientMost = 8

// patient is the client for another try after err: a store that stalled gets
// twice the time, since one that is only slow would never be done, and what was
// given up costs it even more.
func (c Client) patient(err error, first time.Duration) Client {
	if errors.Is(err, ErrStalled) {
		c.Stall = min(2*c.stall(), patientMost*first)
	}
	return c
}

func (c Client) moved(n int64) {
	if c.Moved != nil && n != 0 {
		c.Moved(n)
	}
}

// pause waits after the n-th failure in a row; an error says that ctx ended.
func (c Client) pause(ctx context.Context, n int) error {
	wait := min(200*time.Millisecond<<min(n, 10), 10*time.Second)
	if c.Backoff != nil {
		wait = c.Backoff(n)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-timer.C:
		return nil
	}
}

// StatusError is an answer of the store that is not what was asked for.
type StatusError struct {
	Method string
	URL    string // without its query, which holds a signature
	Code   int
	// Reason is S3's word for it, where the answer has one: SlowDown.
	Reason string
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s %s answered %d %s", e.Method, e.URL, e.Code, http.StatusText(e.Code))
	if e.Reason != "" {
		text += " (" + e.Reason + ")"
	}
	return text
}

// damaged are S3's words for a body that did not arrive as it was sent (Amazon
// S3 API reference, "Error responses").
var damaged = map[string]bool{
	"BadDigest": true, "XAmzContentChecksumMismatch": true, "XAmzContentSHA256Mismatch": true, "InvalidDigest": true,
	"IncompleteBody": true, "RequestTimeout": true, "RequestTimeTooSkewed": true,
}

// refusal: the store understood, and will say the same again. A link that has
// expired is one too.
func (e *StatusError) refusal() bool {
	return e.Code >= 400 && e.Code < 500 && e.Code != http.StatusRequestTimeout && e.Code != http.StatusTooManyRequests && !damaged[e.Reason]
}

func statusError(method, link string, resp *http.Response) *StatusError {
	body, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
	var answer struct{ Code string }
	_ = xml.Unmarshal(body, &answer)
	if len(answer.Code) > 100 {
		answer.Code = ""
	}
	return &StatusError{Method: method, URL: plain(link), Code: resp.StatusCode, Reason: answer.Code}
}

// guard ends a request's context when nothing moves.
type guard struct {
	timer *time.Timer
	end   context.CancelCauseFunc
}

func watch(ctx context.Context, limit time.Duration) (context.Context, *guard) {
	ctx, end := context.WithCancelCause(ctx)
	g := &guard{end: end}
	g.timer = time.AfterFunc(limit, func() { end(ErrStalled) })
	return ctx, g
}

// allow gives the next byte its time.
func (g *guard) allow(limit time.Duration) { g.timer.Reset(limit) }

func (g *guard) stop() {
	g.timer.Stop()
	g.end(nil)
}

// fault says what broke a request, without its link: that carries a signature.
func fault(ctx context.Context, method, link string, err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		err = wrapped.Err
	}
	if errors.Is(context.Cause(ctx), ErrStalled) {
		err = ErrStalled
	}
	return fmt.Errorf("%s %s: %w", method, plain(link), err)
}

// plain is a link without its query: presigned links are secrets.
func plain(link string) string {
	u, err := url.Parse(link)
	if err != nil {
		return "(bad link)"
	}
	u.RawQuery = ""
	return u.String()
}
