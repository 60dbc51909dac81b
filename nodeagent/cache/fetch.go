package cache

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// tries is how often a transfer that makes no progress is begun again.
const tries = 6

// StatusError is an answer of the store that is no file.
type StatusError struct {
	Code int
	URL  string // without its query, which holds a signature
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("cache: GET %s answered %d %s", e.URL, e.Code, http.StatusText(e.Code))
}

// permanent: asking the same link again gives the same answer.
func (e *StatusError) permanent() bool {
	return e.Code >= 400 && e.Code < 500 && e.Code != http.StatusRequestTimeout && e.Code != http.StatusTooManyRequests && e.Code != http.StatusRequestedRangeNotSatisfiable
}

// diskError is a failure on this side of the transfer.
type diskError struct{ err error }

func (e *diskError) Error() string { return "cache: " + e.err.Error() }
func (e *diskError) Unwrap() error { return e.err }

// fetch transfers an item into blobs, over as many requests as it takes.
func (c *Cache) fetch(ctx context.Context, it Item) error {
	idle, corrupt := 0, 0
	for {
		before := size(c.partial(it.SHA256))
		err := c.transfer(ctx, it)
		if err == nil {
			return nil
		}
		var status *StatusError
		var disk *diskError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.As(err, &disk), errors.As(err, &status) && status.permanent():
			return err
		case errors.Is(err, ErrCorrupt):
			if corrupt++; corrupt == 2 {
				return err
			}
		case size(c.partial(it.SHA256)) > before:
			idle = 0
		default:
			idle++
		}
		if idle >= tries {
			return err
		}
		timer := time.NewTimer(c.pause << min(idle, 5))
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}

func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}

// transfer makes one request for what is missing, and seals the file if it is
// whole then.
func (c *Cache) transfer(ctx context.Context, it Item) error {
	path := c.partial(it.SHA256)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return &diskError{err}
	}
	defer f.Close()
	sum := sha256.New()
	have, err := io.Copy(sum, f) // what an earlier request brought
	if err != nil {
		return &diskError{err}
	}
	if have > it.Size {
		_ = os.Remove(path)
		return fmt.Errorf("%w: more of %s is on disk than it is long", ErrCorrupt, plain(it.URL))
	}
	if have < it.Size {
		if err := c.request(ctx, it, f, sum, &have); err != nil {
			return err
		}
	}
	if got := hex.EncodeToString(sum.Sum(nil)); got != it.SHA256 {
		_ = os.Remove(path)
		return fmt.Errorf("%w: %s has SHA-256 %s, want %s", ErrCorrupt, plain(it.URL), got, it.SHA256)
	}
	return c.seal(f, it)
}

func (c *Cache) request(ctx context.Context, it Item, f *os.File, sum hash.Hash, have *int64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, it.URL, nil)
	if err != nil {
		return fmt.Errorf("cache: GET %s: %w", plain(it.URL), bare(err))
	}
	// A transparent gzip would make the ranges mean something else.
	req.Header.Set("Accept-Encoding", "identity")
	if *have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", *have))
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return fmt.Errorf("cache: GET %s: %w", plain(it.URL), bare(err))
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusPartialContent && *have > 0:
		var from int64
		if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &from); err != nil || from != *have {
			return fmt.Errorf("cache: GET %s: answered range %q, asked from %d", plain(it.URL), resp.Header.Get("Content-Range"), *have)
		}
	case resp.StatusCode == http.StatusOK: // all of it, asked for or not
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return &diskError{err}
		}
		if err := f.Truncate(0); err != nil {
			return &diskError{err}
		}
		sum.Reset()
		*have = 0
	default:
		if resp.StatusCode == http.StatusRequestedRangeNotSatisfiable {
			_ = f.Truncate(0)
		}
		return &StatusError{Code: resp.StatusCode, URL: plain(it.URL)}
	}
	return receive(resp.Body, it, f, sum, have)
}

func receive(body io.Reader, it Item, f *os.File, sum hash.Hash, have *int64) error {
	buf := make([]byte, 256<<10)
	for {
		n, err := body.Read(buf)
		if *have+int64(n) > it.Size {
			_ = f.Truncate(0)
			return fmt.Errorf("%w: %s is longer than %d bytes", ErrCorrupt, plain(it.URL), it.Size)
		}
		if _, werr := f.Write(buf[:n]); werr != nil {
			return &diskError{werr}
		}
		sum.Write(buf[:n])
		*have += int64(n)
		if *have == it.Size {
			return nil
		}
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("cache: GET %s: after %d of %d bytes: %w", plain(it.URL), *have, it.Size, err)
		}
	}
}

// seal turns a whole partial file into a blob.
func (c *Cache) seal(f *os.File, it Item) error {
	blob := c.blob(it.SHA256)
	err := os.MkdirAll(filepath.Dir(blob), 0o750)
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), blob)
	}
	// The seal comes last: a blob without it is hashed again before it is used.
	if err == nil {
		err = f.Chmod(0o440)
	}
	if err == nil {
		err = os.Chtimes(blob, sealed, sealed)
	}
	if err != nil {
		return &diskError{err}
	}
	return nil
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
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

// bare strips the link, with its signature, from an error of net/http.
func bare(err error) error {
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
