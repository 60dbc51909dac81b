package capability

import (
	"context"
	"slices"

	"github.com/tunemesh/tunemesh/api"
)

// GPULoads measures what each GPU does at the moment, by the indices of Detect.
func GPULoads(ctx context.Context) []api.GPULoad {
	return slices.Concat(nvidiaLoads(ctx), rocmLoads(ctx), metalLoads(ctx))
}

func some[T any](v T) *T { return &v }
