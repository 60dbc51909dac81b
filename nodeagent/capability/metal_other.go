//go:build !darwin

package capability

import (
	"context"

	"github.com/tunemesh/tunemesh/api"
)

func metal(context.Context) []api.GPU { return nil }

func metalLoads(context.Context) []api.GPULoad { return nil }
