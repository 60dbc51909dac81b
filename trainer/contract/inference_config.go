package contract

import (
	"net"
	"slices"
	"strings"
)

// ServedPrecisions are those that a model can be served in.
var ServedPrecisions = []string{"auto", "stored", "f32", "bf16", "q8"}

// InferenceConfig says how the stage inference serves.
type InferenceConfig struct {
	Address    string `json:"address,omitempty" doc:"HOST:PORT to serve gRPC at; port 0 takes any, an event says which"`
	Concurrent int    `json:"concurrent,omitempty" doc:"requests that are computed in turn; others wait"`
	Precision  string `json:"precision,omitempty" doc:"auto, stored, f32, bf16 or q8 (8 bits: faster, a little less exact); auto is as stored, or what fits into the memory"`
}

func (c InferenceConfig) faults(fail func(field, format string, args ...any)) {
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		fail("inference.address", "is %q, want HOST:PORT", c.Address)
	}
	if !slices.Contains(ServedPrecisions, c.Precision) {
		fail("inference.precision", "is %q, want %s", c.Precision, strings.Join(ServedPrecisions, ", "))
	}
}
