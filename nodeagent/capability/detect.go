package capability

import (
	"context"

	"github.com/tunemesh/tunemesh/api"
)

// Detect finds this machine's capability; dir is where the agent works.
func Detect(ctx context.Context, dir string) api.Capability { return api.Capability{} }
