package client

import (
	"context"
	"net/http"

	"github.com/tunemesh/tunemesh/api"
)

// StoreProbe asks for links to try the way to the object store with.
func (c *Client) StoreProbe(ctx context.Context) (api.StoreProbe, error) {
	var out api.StoreProbe
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/doctor/probe", body: struct{}{}}, &out)
	return out, err
}
