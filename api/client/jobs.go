package client

import (
	"context"
	"net/http"
	"net/url"

	"github.com/oklog/ulid/v2"

	"github.com/tunemesh/tunemesh/api"
)

// page is one page of a listing.
type page[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// list reads all pages of a listing.
func list[T any](ctx context.Context, c *Client, path string, query url.Values) ([]T, error) {
	var all []T
	if query == nil {
		query = url.Values{}
	}
	for {
		var p page[T]
		if err := c.do(ctx, call{method: http.MethodGet, path: path, query: query}, &p); err != nil {
			return nil, err
		}
		all = append(all, p.Items...)
		if p.Next == "" {
			return all, nil
		}
		query.Set("cursor", p.Next)
	}
}

func get[T any](ctx context.Context, c *Client, path string) (T, error) {
	var out T
	err := c.do(ctx, call{method: http.MethodGet, path: path}, &out)
	return out, err
}

// SubmitJob submits a job. Where the spec has no id one is chosen here, so that
// a repeat after an unknown outcome is the same job.
func (c *Client) SubmitJob(ctx context.Context, spec api.JobSpec) (api.JobDetail, error) {
	if spec.ID == "" {
		spec.ID = ulid.Make().String()
	}
	var out api.JobDetail
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/jobs", body: spec}, &out)
	return out, err
}

// Jobs lists all jobs, newest first.
func (c *Client) Jobs(ctx context.Context) ([]api.Job, error) {
	return list[api.Job](ctx, c, "/v1/jobs", nil)
}

// Job returns a job with its stages.
func (c *Client) Job(ctx context.Context, id string) (api.JobDetail, error) {
	return get[api.JobDetail](ctx, c, "/v1/jobs/"+esc(id))
}

// CancelJob stops a job; cancelling a finished one is a conflict.
func (c *Client) CancelJob(ctx context.Context, id, reason string) (api.JobDetail, error) {
	var out api.JobDetail
	body := struct {
		Reason string `json:"reason,omitempty"`
	}{reason}
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/jobs/" + esc(id) + "/cancel", body: body}, &out)
	return out, err
}

// ResumeJob lets a failed or cancelled job go on from its last good stage. After
// an unknown outcome it is not repeated: look at the job.
func (c *Client) ResumeJob(ctx context.Context, id string) (api.JobDetail, error) {
	var out api.JobDetail
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/jobs/" + esc(id) + "/resume", once: true}, &out)
	return out, err
}

// Stages lists a job's stages in topological order.
func (c *Client) Stages(ctx context.Context, jobID string) ([]api.Stage, error) {
	return list[api.Stage](ctx, c, "/v1/jobs/"+esc(jobID)+"/stages", nil)
}

// Attempts lists a job's attempts, oldest first.
func (c *Client) Attempts(ctx context.Context, jobID string) ([]api.Attempt, error) {
	return list[api.Attempt](ctx, c, "/v1/jobs/"+esc(jobID)+"/attempts", nil)
}

// Artifacts lists what a job's stages made, with presigned URLs.
func (c *Client) Artifacts(ctx context.Context, jobID string) ([]api.StageArtifact, error) {
	return list[api.StageArtifact](ctx, c, "/v1/jobs/"+esc(jobID)+"/artifacts", nil)
}

// DeadLetters lists the dead letters of a job, or of all jobs for an empty id.
func (c *Client) DeadLetters(ctx context.Context, jobID string) ([]api.DeadLetter, error) {
	if jobID == "" {
		return list[api.DeadLetter](ctx, c, "/v1/dead-letters", nil)
	}
	return list[api.DeadLetter](ctx, c, "/v1/jobs/"+esc(jobID)+"/dead-letters", nil)
}
