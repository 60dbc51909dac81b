package contract

import "net"

// InferenceConfig says how the stage inference serves.
type InferenceConfig struct {
	Address    string `json:"address,omitempty" doc:"HOST:PORT to serve gRPC at; port 0 takes any, an event says which"`
	Concurrent int    `json:"concurrent,omitempty" doc:"requests that are computed in turn; others wait"`
	Precision  string `json:"precision,omitempty" doc:"stored (the weights as they are) or q8 (8 bits: faster, a little less exact)"`
}

func (c InferenceConfig) faults(fail func(field, format string, args ...any)) {
	if _, _, err := net.SplitHostPort(c.Address); err != nil {
		fail("inference.address", "is %q, want HOST:PORT", c.Address)
	}
	if c.Precision != "stored" && c.Precision != "q8" {
		fail("inference.precision", "is %q, want stored or q8", c.Precision)
	}
}
