package client

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/transfer"
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
		once := &lent{body: body}
		out, failure := c.tryUpload(ctx, path, name, once, size)
		if seekable { // a read of a pipe may last
			once.takeBack()
		}
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

func (c *Client) tryUpload(ctx context.Context, path, name string, body *lent, size int64) (api.Dataset, *tryError) {
	var out api.Dataset
	// Not a Closer, which the transport would close: the caller owns it.
	req, err := c.request(ctx, http.MethodPost, path, url.Values{"name": {name}}, body)
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

// uploadPatience is how long somebody who waits at a terminal may see an upload
// not get on.
const uploadPatience = 3 * time.Minute

// transfers is what moves bytes by presigned links.
func (c *Client) transfers(moved func(int64)) transfer.Client {
	return transfer.Client{HTTP: c.http, Tries: c.retries + 1, Patience: uploadPatience, Moved: moved, Backoff: func(n int) time.Duration {
		return min(backoffFirst<<min(n, 10), backoffMost)
	}}
}

// Download copies an artifact's bytes from its presigned URL to w, goes on where
// a connection breaks, and checks size and SHA-256; on an error w holds a part of
// the file, or, with transfer.ErrCorrupt, other bytes.
func (c *Client) Download(ctx context.Context, a api.Artifact, w io.Writer) error {
	d := transfer.Download{Link: a.URL, Size: a.Size, SHA256: a.SHA256, To: w, Sum: sha256.New()}
	if err := c.transfers(nil).Fetch(ctx, &d); err != nil {
		return &CallError{"download " + a.Name, err}
	}
	return nil
}

// Put sends a file to an artifact's presigned URL.
func (c *Client) Put(ctx context.Context, a api.Artifact, from io.ReaderAt) error {
	return c.put(ctx, a, from, c.transfers(nil), func(context.Context) (string, error) {
		return "", errors.New("the link has expired, or was never good")
	})
}

func (c *Client) put(ctx context.Context, a api.Artifact, from io.ReaderAt, by transfer.Client, renew func(context.Context) (string, error)) error {
	err := by.Send(ctx, transfer.Piece{From: from, Size: a.Size, SHA256: a.SHA256}, a.URL, renew)
	if err != nil {
		return &CallError{"upload " + a.Name, err}
	}
	return nil
}
