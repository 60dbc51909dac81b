package client

import (
	"context"
	"net/http"

	"github.com/tunemesh/tunemesh/api"
)

// PlanJob says what a job would do. It is refused for the same reasons as a
// submit, but that the dataset may be left out.
func (c *Client) PlanJob(ctx context.Context, spec api.JobSpec) (api.JobPlan, error) {
	var out api.JobPlan
	err := c.do(ctx, call{method: http.MethodPost, path: "/v1/plans", body: spec}, &out)
	return out, err
}
