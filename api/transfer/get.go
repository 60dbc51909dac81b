package transfer

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"time"
)

// Download is a file on its way here.
type Download struct {
	Link   string
	Size   int64  // bytes
	SHA256 string // in hex; empty: not known, so not checked
	// To gets the bytes in their order, each once.
	To io.Writer
	// Have is how many bytes To has already, Sum the SHA-256 of these.
	Have int64
	Sum  hash.Hash
}

// localError is a failure on this side of a transfer.
type localError struct{ err error }

func (e *localError) Error() string { return e.err.Error() }
func (e *localError) Unwrap() error { return e.err }

// Fetch brings a file here, over as many requests as it takes; each goes on from
// what is there. ErrCorrupt says that what is there then is not the file. On
// another error d says how much came.
func (c Client) Fetch(ctx context.Context, d *Download) error {
	first := c.stall()
	for idle := 0; d.Have < d.Size; {
		before := d.Have
		err := c.get(ctx, d)
		if err == nil {
			break
		}
		var status *StatusError
		var local *localError
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case errors.Is(err, ErrCorrupt), errors.As(err, &local):
			return err
		// A store that was just restored, or lags behind its own answers, may not
		// know an object for a moment.
		case errors.As(err, &status) && status.refusal() && status.Code != http.StatusNotFound && status.Code != http.StatusRequestedRangeNotSatisfiable:
			return err
		case d.Have > before:
			idle = 0
		default:
			idle++
		}
		if idle >= cmp.Or(c.Tries, tries) {
			return err
		}
		c = c.patient(err, first)
		if err := c.pause(ctx, idle); err != nil {
			return err
		}
	}
	if got := hex.EncodeToString(d.Sum.Sum(nil)); d.Have > d.Size || d.SHA256 != "" && got != d.SHA256 {
		return fmt.Errorf("%w: %s has %d bytes with the SHA-256 %s, want %d with %s", ErrCorrupt, plain(d.Link), d.Have, got, d.Size, d.SHA256)
	}
	return nil
}

// get makes one request for what is missing.
func (c Client) get(ctx context.Context, d *Download) error {
	ctx, g := watch(ctx, answerFactor*c.stall())
	defer g.stop()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.Link, nil)
	if err != nil {
		return fault(ctx, http.MethodGet, d.Link, errors.New("bad link"))
	}
	// A transparent gzip would make the ranges mean something else.
	req.Header.Set("Accept-Encoding", "identity")
	if d.Have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", d.Have))
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return fault(ctx, http.MethodGet, d.Link, err)
	}
	defer resp.Body.Close()
	var skip int64
	switch {
	case resp.StatusCode == http.StatusPartialContent && d.Have > 0:
		var from int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &from); err != nil || from != d.Have {
			return fmt.Errorf("GET %s: answered range %q, asked from %d", plain(d.Link), resp.Header.Get("Content-Range"), d.Have)
		}
	case resp.StatusCode == http.StatusOK: // all of it, asked for or not
		skip = d.Have
	default:
		return statusError(http.MethodGet, d.Link, resp)
	}
	return c.receive(ctx, g, resp.Body, skip, d)
}

// receive writes what comes to where it belongs, but the first skip bytes: those
// are there.
func (c Client) receive(ctx context.Context, g *guard, body io.Reader, skip int64, d *Download) error {
	buf := make([]byte, 256<<10)
	for {
		g.allow(c.stall())
		n, err := body.Read(buf)
		g.allow(time.Hour) // the disk may take its time
		b := buf[:n]
		if over := min(skip, int64(n)); over > 0 {
			skip -= over
			b = b[over:]
		}
		if d.Have+int64(len(b)) > d.Size {
			return fmt.Errorf("%w: %s is longer than %d bytes", ErrCorrupt, plain(d.Link), d.Size)
		}
		if len(b) > 0 {
			w, err := d.To.Write(b)
			d.Sum.Write(b[:w])
			d.Have += int64(w)
			c.moved(int64(w))
			if err != nil {
				return &localError{err}
			}
		}
		if d.Have == d.Size {
			return nil
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("after %d of %d bytes: %w", d.Have, d.Size, fault(ctx, http.MethodGet, d.Link, err))
		}
	}
}
