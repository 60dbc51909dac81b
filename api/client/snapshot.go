package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/tunemesh/tunemesh/api/snapshot"
)

// SaveSnapshot writes a snapshot of the control plane's state to w, with stale
// that of the server that answers. What was written is whole only if
// snapshot.Inspect says so.
func (c *Client) SaveSnapshot(ctx context.Context, stale bool, w io.Writer) error {
	const path = "/v1/snapshot"
	query := url.Values{}
	if stale {
		query.Set("stale", "true")
	}
	for n := 0; ; n++ {
		req, err := c.request(ctx, http.MethodGet, path, query, nil)
		if err != nil {
			return wrap(http.MethodGet, path, err)
		}
		resp, failure := c.send(req)
		if failure == nil {
			defer resp.Body.Close()
			if _, err := io.Copy(w, resp.Body); err != nil {
				return wrap(http.MethodGet, path, err)
			}
			return nil
		}
		if ctx.Err() != nil || !failure.retry || n >= c.retries || sleep(ctx, n+1, failure.retryAfter) != nil {
			return wrap(http.MethodGet, path, failure.err)
		}
	}
}

// RestoreSnapshot replaces the control plane's state by a snapshot, which is
// looked through first. It is sent once: after an unknown outcome look at the
// jobs, or send it again.
func (c *Client) RestoreSnapshot(ctx context.Context, file io.ReadSeeker, force bool) (snapshot.Summary, error) {
	const path = "/v1/snapshot/restore"
	summary, err := snapshot.Inspect(file)
	if err != nil {
		return summary, err
	}
	size, err := file.Seek(0, io.SeekEnd)
	if _, back := file.Seek(0, io.SeekStart); err != nil || back != nil {
		return summary, fmt.Errorf("client: read the snapshot: %w", errors.Join(err, back))
	}
	query := url.Values{}
	if force {
		query.Set("force", "true")
	}
	req, err := c.request(ctx, http.MethodPost, path, query, struct{ io.Reader }{file})
	if err != nil {
		return summary, wrap(http.MethodPost, path, err)
	}
	req.ContentLength = size
	req.Header.Set("Content-Type", "application/octet-stream")
	resp, failure := c.send(req)
	if failure != nil {
		return summary, wrap(http.MethodPost, path, failure.err)
	}
	return summary, resp.Body.Close()
}
