package client

import (
	"context"
	"crypto/rand"
	"net/http"

	"github.com/tunemesh/tunemesh/api"
)

// Peers lists the servers of the control plane.
func (c *Client) Peers(ctx context.Context) ([]api.Peer, error) {
	return list[api.Peer](ctx, c, "/v1/cluster/peers", nil)
}

// Gossip returns whom the server that answers sees by gossip.
func (c *Client) Gossip(ctx context.Context) (api.Gossip, error) {
	return get[api.Gossip](ctx, c, "/v1/cluster/gossip")
}

// GossipKey says which key encrypts the gossip.
func (c *Client) GossipKey(ctx context.Context) (api.GossipKeyStatus, error) {
	return get[api.GossipKeyStatus](ctx, c, "/v1/cluster/gossip-key")
}

// RotateGossipKey begins to exchange the gossip's key, if it is not already.
func (c *Client) RotateGossipKey(ctx context.Context) (api.GossipKeyStatus, error) {
	var out api.GossipKeyStatus
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/cluster/gossip-key"}, &out)
	return out, err
}

// RemovePeer removes a server, by its id or name, and returns those that stay.
func (c *Client) RemovePeer(ctx context.Context, id string, force bool) ([]api.Peer, error) {
	var out page[api.Peer]
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/cluster/peers/" + esc(id) + "/remove", body: api.RemovePeer{Force: force}}, &out)
	return out.Items, err
}

// TransferLeadership lets another server lead: to, by id or name, or any.
func (c *Client) TransferLeadership(ctx context.Context, to string) error {
	return c.do(ctx, call{method: http.MethodPost, path: "/v1/cluster/transfer", body: api.TransferRequest{To: to}, once: true}, nil)
}

// LeaveCluster makes the server that answers leave the cluster and end. It goes
// to the first server of the client's alone.
func (c *Client) LeaveCluster(ctx context.Context) error {
	k := call{method: http.MethodPost, path: "/v1/cluster/leave"}
	if failure := c.tryJSON(ctx, k, nil); failure != nil {
		return wrap(k.method, k.path, failure.err)
	}
	return nil
}

// ClusterSettings returns the cluster's settings.
func (c *Client) ClusterSettings(ctx context.Context) (api.ClusterSettings, error) {
	return get[api.ClusterSettings](ctx, c, "/v1/cluster/settings")
}

// SetClusterSettings replaces the cluster's settings.
func (c *Client) SetClusterSettings(ctx context.Context, s api.ClusterSettings) (api.ClusterSettings, error) {
	var out api.ClusterSettings
	err := c.do(ctx, call{method: http.MethodPut, path: "/v1/cluster/settings", body: s}, &out)
	return out, err
}

// Admit shows a server's join token and gets what makes it trusted.
func (c *Client) Admit(ctx context.Context, r api.AdmitRequest) (api.AdmitReply, error) {
	var out api.AdmitReply
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/cluster/admit", body: r}, &out)
	return out, err
}

// CreateToken makes a token. After an unknown outcome it is repeated with the same
// Idempotency-Key: one token is made.
func (c *Client) CreateToken(ctx context.Context, r api.TokenRequest) (api.TokenReply, error) {
	var out api.TokenReply
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/tokens", body: r, key: rand.Text()}, &out)
	return out, err
}

// Tokens lists the tokens, newest first, without those of nodes.
func (c *Client) Tokens(ctx context.Context) ([]api.Token, error) {
	return list[api.Token](ctx, c, "/v1/tokens", nil)
}

// RevokeToken revokes a token.
func (c *Client) RevokeToken(ctx context.Context, id string) error {
	return c.do(ctx, call{method: http.MethodPost, path: "/v1/tokens/" + esc(id) + "/revoke"}, nil)
}

// ApproveNode lets a pending node run attempts.
func (c *Client) ApproveNode(ctx context.Context, id string) (api.Node, error) {
	var out api.Node
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/nodes/" + esc(id) + "/approve"}, &out)
	return out, err
}

// RejectNode forbids a node to run attempts.
func (c *Client) RejectNode(ctx context.Context, id string) (api.Node, error) {
	var out api.Node
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/nodes/" + esc(id) + "/reject"}, &out)
	return out, err
}

// RemoveNode forgets a node and its credential.
func (c *Client) RemoveNode(ctx context.Context, id string) error {
	return c.do(ctx, call{method: http.MethodPost, path: "/v1/nodes/" + esc(id) + "/remove"}, nil)
}

// Challenge asks for what a node has to sign to enrol.
func (c *Client) Challenge(ctx context.Context, nodeID string) (api.Challenge, error) {
	return get[api.Challenge](ctx, c, "/v1/nodes/"+esc(nodeID)+"/challenge")
}

// Enrol makes a machine a node and returns its credential. A repeat gives
// another credential in place of the first.
func (c *Client) Enrol(ctx context.Context, nodeID string, r api.EnrolRequest) (api.EnrolReply, error) {
	var out api.EnrolReply
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/nodes/" + esc(nodeID) + "/enrol", body: r}, &out)
	return out, err
}
