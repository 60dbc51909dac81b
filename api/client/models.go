package client

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/transfer"
)

// modelTime bounds the call that makes a model known: the server reads all of its
// files before it believes them.
const modelTime = 10 * time.Minute

// RequestModelUploads says where those of a base model's files go that the mesh has
// not yet, in their order, each with a presigned URL for SendModelFile.
func (c *Client) RequestModelUploads(ctx context.Context, name string, files []api.ModelFile) ([]api.Artifact, error) {
	out, err := c.modelUploads(ctx, name, files)
	return slices.DeleteFunc(out.Files, func(a api.Artifact) bool { return slices.Contains(out.Have, a.Name) }), err
}

func (c *Client) modelUploads(ctx context.Context, name string, files []api.ModelFile) (out api.UploadReply, err error) {
	err = c.do(ctx, call{method: http.MethodPost, path: "/v1/models/" + esc(name) + "/uploads", body: api.ModelUploads{Files: files, Sealed: true}}, &out)
	return out, err
}

// SendModelFile sends one of a base model's files to where RequestModelUploads
// said, a large one in parts. moved hears of bytes that are there; less than zero
// where they have to be sent again.
func (c *Client) SendModelFile(ctx context.Context, model string, files []api.ModelFile, to api.Artifact, from io.ReaderAt, moved func(int64)) error {
	by := c.transfers(moved)
	if to.Size >= transfer.PartsFrom {
		parts := transfer.CutParts(to.Size)
		if _, err := io.Copy(parts, io.NewSectionReader(from, 0, to.Size)); err != nil {
			return &CallError{"upload " + to.Name, err}
		}
		plan := modelParts{c, "/v1/models/" + esc(model) + "/", api.ModelMultipart{Files: files, File: to.Name}}
		err := by.SendParts(ctx, from, parts.List(), plan, "", func(string) error { return nil })
		if err != nil && !errors.Is(err, transfer.ErrNoParts) {
			return &CallError{"upload " + to.Name, err}
		}
		if err == nil {
			return nil
		}
	}
	if to.URL == "" {
		return fmt.Errorf("client: upload %s: its %d bytes would have to go in parts, which this mesh does not take", to.Name, to.Size)
	}
	return c.put(ctx, to, from, by, func(ctx context.Context) (string, error) {
		// Another may have brought the file meanwhile: to send it again is no harm.
		again, err := c.modelUploads(ctx, model, files)
		for _, a := range again.Files {
			if a.Name == to.Name {
				return a.URL, nil
			}
		}
		return "", cmp.Or(err, errors.New("the control plane gave no other link"))
	})
}

// modelParts plans the upload of one file of a model. It implements
// transfer.Planner.
type modelParts struct {
	c    *Client
	path string
	body api.ModelMultipart
}

func (p modelParts) ask(ctx context.Context, step api.MultipartStep, id string, parts []api.UploadPart) (api.Multipart, error) {
	p.body.UploadID, p.body.Parts = id, parts
	var out api.Multipart
	err := p.c.do(ctx, multipartCall(p.path+string(step), step, p.body), &out)
	if problem, ok := problemOf(err); ok && transfer.Unknown(problem) {
		return out, transfer.ErrNoParts
	}
	return out, err
}

// Begin implements transfer.Planner.
func (p modelParts) Begin(ctx context.Context, id string) (api.Multipart, error) {
	return p.ask(ctx, api.MultipartBegin, id, nil)
}

// Links implements transfer.Planner.
func (p modelParts) Links(ctx context.Context, id string, parts []api.UploadPart) ([]api.UploadPart, error) {
	m, err := p.ask(ctx, api.MultipartLinks, id, parts)
	return m.Parts, err
}

// Complete implements transfer.Planner.
func (p modelParts) Complete(ctx context.Context, id string) error {
	_, err := p.ask(ctx, api.MultipartComplete, id, nil)
	return err
}

// Abort implements transfer.Planner.
func (p modelParts) Abort(ctx context.Context, id string) error {
	_, err := p.ask(ctx, api.MultipartAbort, id, nil)
	return err
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
