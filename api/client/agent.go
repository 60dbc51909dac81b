package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// Register says what a node is; repeat it whenever its capability changes or a
// heartbeat's reply says that the node is not registered.
func (c *Client) Register(ctx context.Context, nodeID string, r api.Registration) (api.RegistrationReply, error) {
	var out api.RegistrationReply
	err := c.do(ctx, call{method: http.MethodPut, path: "/v1/nodes/" + esc(nodeID), body: r}, &out)
	return out, err
}

// Heartbeat renews the node's lease. It is tried once, within 10 seconds: the
// agent's own clock counts from the sending of the last one acknowledged.
func (c *Client) Heartbeat(ctx context.Context, nodeID string, h api.Heartbeat) (api.HeartbeatReply, error) {
	var out api.HeartbeatReply
	k := call{method: http.MethodPost, path: "/v1/nodes/" + esc(nodeID) + "/heartbeat", body: h, timeout: 10 * time.Second}
	if failure := c.tryJSON(ctx, k, &out); failure != nil {
		return out, wrap(k.method, k.path, failure.err)
	}
	return out, nil
}

// Assignments long-polls the node's whole desired set. It returns as soon as the
// set is newer than index, or after wait with the set as it is.
func (c *Client) Assignments(ctx context.Context, nodeID string, index uint64, wait time.Duration) (api.Assignments, error) {
	query := url.Values{"index": {strconv.FormatUint(index, 10)}, "wait": {wait.String()}}
	var out api.Assignments
	err := c.do(ctx, call{method: http.MethodGet, path: "/v1/nodes/" + esc(nodeID) + "/assignments", query: query, timeout: wait + 15*time.Second}, &out)
	return out, err
}

func attemptPath(fence uint64, verb string) string {
	return "/v1/attempts/" + strconv.FormatUint(fence, 10) + "/" + verb
}

// AppendEvents ships lines of one attempt. A repeat stores nothing twice, and a
// batch that starts beyond what the server holds stores nothing: either way, go
// on from the reply's NextSeq.
func (c *Client) AppendEvents(ctx context.Context, fence uint64, b api.EventBatch) (api.EventAck, error) {
	var out api.EventAck
	err := c.do(ctx, call{method: http.MethodPost, path: attemptPath(fence, "events"), body: b, pack: true}, &out)
	return out, err
}

// Multipart takes one step of the upload of a file in parts. Each may be repeated.
func (c *Client) Multipart(ctx context.Context, fence uint64, step api.MultipartStep, r api.MultipartRequest) (api.Multipart, error) {
	var out api.Multipart
	err := c.do(ctx, multipartCall(attemptPath(fence, string(step)), step, r), &out)
	return out, err
}

// multipartTime bounds one try of a step: a store may copy all parts of a large
// file to make one of them.
const multipartTime = 15 * time.Minute

func multipartCall(path string, step api.MultipartStep, body any) call {
	k := call{method: http.MethodPost, path: path, body: body}
	if step == api.MultipartComplete {
		k.timeout = multipartTime
	}
	return k
}

// RequestUploads asks for presigned PUT URLs, in the order of the request. Send
// each with a PUT whose Content-Length is the file's size and, where Sealed was
// asked for, with the headers that the link names.
func (c *Client) RequestUploads(ctx context.Context, fence uint64, r api.UploadRequest) (api.UploadReply, error) {
	var out api.UploadReply
	err := c.do(ctx, call{method: http.MethodPost, path: attemptPath(fence, "uploads"), body: r}, &out)
	return out, err
}

// ReportCheckpoint makes an uploaded checkpoint known; repeating it is harmless.
func (c *Client) ReportCheckpoint(ctx context.Context, fence uint64, r api.CheckpointReport) error {
	return c.do(ctx, call{method: http.MethodPost, path: attemptPath(fence, "checkpoints"), body: r}, nil)
}

// ReportAttempt reports the start or the end of an attempt; repeating the same
// report is harmless. IsStale tells that the attempt has moved on.
func (c *Client) ReportAttempt(ctx context.Context, fence uint64, r api.AttemptReport) error {
	return c.do(ctx, call{method: http.MethodPost, path: attemptPath(fence, "report"), body: r}, nil)
}
