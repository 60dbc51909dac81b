package client

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/tunemesh/tunemesh/api"
)

// askFirst is the size in bytes from which on an upload asks before it sends.
const askFirst = 128 << 10

// UploadDataset streams a file of size bytes (-1: not known) into the mesh. It
// is repeated only where body is an io.Seeker: the file is content-addressed,
// so the same bytes are the same dataset.
func (c *Client) UploadDataset(ctx context.Context, name string, body io.Reader, size int64) (api.Dataset, error) {
	const method, path = http.MethodPost, "/v1/datasets"
	seeker, seekable := body.(io.Seeker)
	var start int64
	if seekable {
		var err error
		if start, err = seeker.Seek(0, io.SeekCurrent); err != nil {
			seekable = false // a pipe behind an *os.File
		}
	}
	for n := 0; ; n++ {
		out, failure := c.tryUpload(ctx, path, name, body, size)
		if failure == nil {
			return out, nil
		}
		if ctx.Err() != nil || !failure.retry || !seekable || n >= c.retries {
			return out, wrap(method, path, failure.err)
		}
		if sleep(ctx, n+1, failure.retryAfter) != nil {
			return out, wrap(method, path, failure.err)
		}
		if _, err := seeker.Seek(start, io.SeekStart); err != nil {
			return out, wrap(method, path, errors.Join(failure.err, err))
		}
	}
}

func (c *Client) tryUpload(ctx context.Context, path, name string, body io.Reader, size int64) (api.Dataset, *tryError) {
	var out api.Dataset
	// The transport closes a body that is a Closer; the caller owns it.
	req, err := c.request(ctx, http.MethodPost, path, url.Values{"name": {name}}, struct{ io.Reader }{body})
	if err != nil {
		return out, &tryError{err: err, refused: true}
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	if size < 0 || size > askFirst {
		// A refusal then comes before the body is sent; without, the connection
		// would be reset in the middle of it.
		req.Header.Set("Expect", "100-continue")
	}
	if size >= 0 {
		req.ContentLength = size
		if size == 0 {
			req.Body = http.NoBody
		}
	}
	resp, failure := c.send(req)
	if failure != nil {
		return out, failure
	}
	defer resp.Body.Close()
	return out, decode(resp, &out)
}

// Datasets lists the datasets, newest first.
func (c *Client) Datasets(ctx context.Context) ([]api.Dataset, error) {
	return list[api.Dataset](ctx, c, "/v1/datasets", nil)
}

// Dataset returns one dataset.
func (c *Client) Dataset(ctx context.Context, id string) (api.Dataset, error) {
	return get[api.Dataset](ctx, c, "/v1/datasets/"+esc(id))
}

// Download copies an artifact's bytes from its presigned URL to w and checks
// size and SHA-256; on an error w holds a part of the file. It is tried once.
func (c *Client) Download(ctx context.Context, a api.Artifact, w io.Writer) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, a.URL, nil)
	if err != nil {
		return fmt.Errorf("client: download %s: %w", a.Name, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("client: download %s: %w", a.Name, hideQuery(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("client: download %s: the object store answers %s", a.Name, resp.Status)
	}
	sum := sha256.New()
	n, err := io.Copy(io.MultiWriter(w, sum), resp.Body)
	if err != nil {
		return fmt.Errorf("client: download %s: %w", a.Name, err)
	}
	if n != a.Size {
		return fmt.Errorf("client: download %s: got %d bytes, want %d", a.Name, n, a.Size)
	}
	if got := hex.EncodeToString(sum.Sum(nil)); a.SHA256 != "" && got != a.SHA256 {
		return fmt.Errorf("client: download %s: its SHA-256 is %s, want %s", a.Name, got, a.SHA256)
	}
	return nil
}

// Put sends a file to an artifact's presigned URL. It is tried once.
func (c *Client) Put(ctx context.Context, a api.Artifact, body io.Reader) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, a.URL, struct{ io.Reader }{body})
	if err != nil {
		return fmt.Errorf("client: upload %s: %w", a.Name, err)
	}
	req.ContentLength = a.Size
	if a.Size == 0 {
		req.Body = http.NoBody
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return fmt.Errorf("client: upload %s: %w", a.Name, hideQuery(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode/100 != 2 {
		data, _ := io.ReadAll(io.LimitReader(resp.Body, 4096))
		return fmt.Errorf("client: upload %s: the object store answers %s: %s", a.Name, resp.Status, firstLine(data))
	}
	return nil
}

// hideQuery keeps a presigned URL's signature out of errors and logs.
func hideQuery(err error) error {
	var ue *url.Error
	if !errors.As(err, &ue) {
		return err
	}
	if u, parseErr := url.Parse(ue.URL); parseErr == nil {
		u.RawQuery = ""
		return &url.Error{Op: ue.Op, URL: u.String(), Err: ue.Err}
	}
	return ue.Err
}
