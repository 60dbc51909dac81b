//go:build !darwin

package capability

import (
	"context"

	"github.com/tunemesh/tunemesh/api"
)

func metal(context.Context) []api.GPU { return nil }
