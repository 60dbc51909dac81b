package inference

import (
	"context"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/tunemesh/tunemesh/trainer/inference/inferencepb"
)

// Client asks a service. The connection is plain text: put a service on
// loopback or a trusted network.
type Client struct {
	conn *grpc.ClientConn
	api  inferencepb.InferenceClient
}

// Dial prepares a client for HOST:PORT; it connects with the first call.
func Dial(addr string) (*Client, error) {
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, fmt.Errorf("inference: %s: %w", addr, err)
	}
	return &Client{conn, inferencepb.NewInferenceClient(conn)}, nil
}

// Close ends the connection.
func (c *Client) Close() error { return c.conn.Close() }

// Model asks what is loaded.
func (c *Client) Model(ctx context.Context) (*inferencepb.ModelInfo, error) {
	info, err := c.api.Model(ctx, &inferencepb.ModelRequest{})
	if err != nil {
		return nil, answered(ctx, err, false)
	}
	return info, nil
}

// Generate calls piece with each piece of the text, in order. What is wrong with a
// request whatever the model is, is said before it is sent: a contract.FieldError.
func (c *Client) Generate(ctx context.Context, in *inferencepb.GenerateRequest, piece func(string)) (*inferencepb.Finish, error) {
	if err := Check(in); err != nil {
		return nil, fmt.Errorf("inference: %w", err)
	}
	answer, err := c.api.Generate(ctx, in)
	if err != nil {
		return nil, answered(ctx, err, false)
	}
	begun := false
	for {
		r, err := answer.Recv()
		if err != nil { // io.EOF too: the finish must come first
			return nil, answered(ctx, err, begun)
		}
		begun = true
		if r.GetText() != "" {
			piece(r.GetText())
		}
		if f := r.GetFinish(); f != nil {
			return f, nil
		}
	}
}
