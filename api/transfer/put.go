package transfer

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"hash"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// refusals is how often the store may refuse something for another reason
	// than an expired link.
	refusals = 5
	// unheardMost is how many tries in a row may be without an answer before
	// another link is asked for.
	unheardMost = 3
)

// Piece is a file, or a part of one, to be sent.
type Piece struct {
	// From has the bytes; it may be read several times.
	From   io.ReaderAt
	Offset int64 // bytes
	Size   int64 // bytes
	SHA256 string
}

// Send puts a piece where a link says, over as many tries as it takes. That an
// answer was lost is no failure: the same bytes are sent again. renew gets
// another link where the one that was used has expired, and now and then where
// no answer comes: a store that refuses a link may close the connection before
// it is heard. ErrChanged says that From does not hold what SHA256 says.
func (c Client) Send(ctx context.Context, p Piece, link string, renew func(context.Context) (string, error)) error {
	begin, refused, unheard, first := time.Now(), 0, 0, c.stall()
	for n := 0; ; n++ {
		err := c.put(ctx, p, link)
		var status *StatusError
		if errors.As(err, &status) {
			unheard = 0
		} else {
			unheard++
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrChanged):
			return err
		case status != nil && status.refusal() && status.Code != http.StatusForbidden:
			refused++
		}
		if refused >= refusals || time.Since(begin) > cmp.Or(c.Patience, patience) {
			return err
		}
		c = c.patient(err, first)
		if err := c.pause(ctx, n); err != nil {
			return err
		}
		if status != nil && status.Code == http.StatusForbidden || unheard > 0 && unheard%unheardMost == 0 {
			if link, err = renew(ctx); err != nil {
				return err
			}
		}
	}
}

// put is one try.
func (c Client) put(ctx context.Context, p Piece, link string) (err error) {
	ctx, g := watch(ctx, c.stall())
	defer g.stop()
	body := &outgoing{r: io.NewSectionReader(p.From, p.Offset, p.Size), sum: sha256.New(), size: p.Size, moved: func(n int64) {
		c.moved(n)
		g.allow(c.stall())
	}, sent: func() { g.allow(answerFactor * c.stall()) }}
	defer func() {
		if err != nil {
			c.moved(-body.taken())
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, link, body)
	if err != nil {
		return fault(ctx, http.MethodPut, link, errors.New("bad link"))
	}
	// A presigned PUT needs its length; zero with a body would mean unknown.
	req.ContentLength = p.Size
	if p.Size == 0 {
		req.Body = http.NoBody
	}
	if err := seal(req, p.SHA256); err != nil {
		return fault(ctx, http.MethodPut, link, err)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		if body.short() {
			return ErrChanged
		}
		return fault(ctx, http.MethodPut, link, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		err := statusError(http.MethodPut, link, resp)
		if p.Size > 0 && damaged[err.Reason] && body.other(p.SHA256) {
			return ErrChanged
		}
		return err
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 4<<10)) // so that the connection is kept
	if p.Size > 0 && body.other(p.SHA256) {
		return ErrChanged
	}
	return nil
}

// Headers that the signature of a sealed link covers: the store compares the
// first with what comes; the second stays with the object.
const (
	headerChecksum = "x-amz-checksum-sha256"
	headerSHA256   = "x-amz-meta-sha256"
)

// seal adds the headers that a link asks for. An older control plane's links
// ask for none.
func seal(req *http.Request, sum string) error {
	for name := range strings.SplitSeq(req.URL.Query().Get("X-Amz-SignedHeaders"), ";") {
		switch name {
		case headerChecksum:
			raw, err := hex.DecodeString(sum)
			if err != nil {
				return errors.New("no SHA-256 in hex")
			}
			req.Header.Set(name, base64.StdEncoding.EncodeToString(raw))
		case headerSHA256:
			req.Header.Set(name, sum)
		}
	}
	return nil
}

// outgoing hashes what is sent, so that it is known to be what was announced.
type outgoing struct {
	r     io.Reader
	size  int64
	moved func(int64)
	sent  func() // all was handed over

	// The transport may still read when the request has failed already.
	mu   sync.Mutex
	sum  hash.Hash
	n    int64
	over bool // what is read from now on does not count
	eof  bool // the file ended
}

// Read implements io.Reader.
func (o *outgoing) Read(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.over {
		return 0, io.ErrClosedPipe
	}
	n, err := o.r.Read(p)
	o.sum.Write(p[:n])
	o.n += int64(n)
	o.eof = o.eof || err == io.EOF
	if n > 0 {
		o.moved(int64(n))
	}
	if o.n == o.size {
		o.sent()
	}
	return n, err
}

// taken ends the count and returns what was read.
func (o *outgoing) taken() int64 {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.over = true
	return o.n
}

// short says that the file ended before it should have.
func (o *outgoing) short() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.eof && o.n < o.size
}

// other says that all was read and is not what it should be.
func (o *outgoing) other(sum string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.n == o.size && hex.EncodeToString(o.sum.Sum(nil)) != sum
}
