package inference

import (
	"context"
	"errors"
	"fmt"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/tunemesh/tunemesh/trainer/inference/inferencepb"
)

// ErrNoAnswer is what a call returns where no service listens.
var ErrNoAnswer = errors.New("no service answers")

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
	return c.api.Model(ctx, &inferencepb.ModelRequest{})
}

// Generate calls piece with each piece of the text, in order.
func (c *Client) Generate(ctx context.Context, in *inferencepb.GenerateRequest, piece func(string)) (*inferencepb.Finish, error) {
	answer, err := c.api.Generate(ctx, in)
	if err != nil {
		return nil, unanswered(err)
	}
	begun := false
	for {
		r, err := answer.Recv()
		if err != nil && !begun {
			return nil, unanswered(err)
		}
		if err != nil { // io.EOF too: the finish must come first
			return nil, fmt.Errorf("inference: %w", err)
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

// unanswered is the error of a request to which no word was said.
func unanswered(err error) error {
	if status.Code(err) == codes.Unavailable {
		return fmt.Errorf("inference: %w: %w", ErrNoAnswer, err)
	}
	return fmt.Errorf("inference: %w", err)
}
