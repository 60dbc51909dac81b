package client

import (
	"context"
	"net/http"

	"github.com/tunemesh/tunemesh/api"
)

// Nodes lists the nodes.
func (c *Client) Nodes(ctx context.Context) ([]api.Node, error) {
	return list[api.Node](ctx, c, "/v1/nodes", nil)
}

// Node returns one node.
func (c *Client) Node(ctx context.Context, id string) (api.Node, error) {
	return get[api.Node](ctx, c, "/v1/nodes/"+esc(id))
}

// DrainNode says whether new attempts may be placed on a node.
func (c *Client) DrainNode(ctx context.Context, id string, drain bool) (api.Node, error) {
	var out api.Node
	body := struct {
		Drain bool `json:"drain"`
	}{drain}
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/nodes/" + esc(id) + "/drain", body: body}, &out)
	return out, err
}

// Models lists the base models.
func (c *Client) Models(ctx context.Context) ([]api.Model, error) {
	return list[api.Model](ctx, c, "/v1/models", nil)
}

// Model returns one base model.
func (c *Client) Model(ctx context.Context, name string) (api.Model, error) {
	return get[api.Model](ctx, c, "/v1/models/"+esc(name))
}

// Version says what the server is.
func (c *Client) Version(ctx context.Context) (api.Version, error) {
	return get[api.Version](ctx, c, "/v1/version")
}

// Ready returns nil when the server can take work. It asks once.
func (c *Client) Ready(ctx context.Context) error {
	if failure := c.tryJSON(ctx, call{method: http.MethodGet, path: "/readyz"}, nil); failure != nil {
		return wrap(http.MethodGet, "/readyz", failure.err)
	}
	return nil
}
