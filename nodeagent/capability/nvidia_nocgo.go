//go:build !(linux && cgo)

package capability

import (
	"context"

	"github.com/tunemesh/tunemesh/api"
)

func nvidia(ctx context.Context) []api.GPU { return nvidiaSMI(ctx) }

func nvidiaLoads(ctx context.Context) []api.GPULoad { return nvidiaSMILoads(ctx) }
