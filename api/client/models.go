package client

import (
	"context"
	"net/http"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// modelTime bounds the call that makes a model known: the server reads all of its
// files before it believes them.
const modelTime = 10 * time.Minute

// RequestModelUploads says where a base model's files go: the answer is in the order
// of files, each with a presigned URL for Put.
func (c *Client) RequestModelUploads(ctx context.Context, name string, files []api.ModelFile) ([]api.Artifact, error) {
	var out api.UploadReply
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/models/" + esc(name) + "/uploads", body: api.ModelUploads{Files: files}}, &out)
	return out.Files, err
}

// ModelObjects lists the files that lie in the bucket under models/base/NAME/, with links to
// them, for an import.
func (c *Client) ModelObjects(ctx context.Context, name string) ([]api.Artifact, error) {
	out, err := get[api.ModelObjects](ctx, c, "/v1/models/"+esc(name)+"/objects")
	return out.Files, err
}

// ModelFiles lists the files of a base model, with links to them.
func (c *Client) ModelFiles(ctx context.Context, name string) ([]api.Artifact, error) {
	out, err := get[api.ModelObjects](ctx, c, "/v1/models/"+esc(name)+"/files")
	return out.Files, err
}

// DatasetFile gives a link to a dataset's file.
func (c *Client) DatasetFile(ctx context.Context, id string) (api.Artifact, error) {
	return get[api.Artifact](ctx, c, "/v1/datasets/"+esc(id)+"/file")
}

// CreateModel makes an uploaded base model known. It may be repeated: the same files
// are the same model.
func (c *Client) CreateModel(ctx context.Context, name string, m api.ModelManifest) (api.Model, error) {
	var out api.Model
	err := c.do(ctx, call{method: http.MethodPut, path: "/v1/models/" + esc(name), body: m, timeout: modelTime}, &out)
	return out, err
}
