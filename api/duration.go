package api

import (
	"fmt"
	"time"
)

// parseDuration reads a Go duration that is not negative; empty is zero.
func parseDuration(s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		return 0, err
	}
	if d < 0 {
		return 0, fmt.Errorf("api: duration %q is negative", s)
	}
	return d, nil
}

// DisconnectGrace returns how long the stage goes on while its node is
// unreachable; the pipeline was validated, so a bad value cannot occur.
func (n StageSpec) DisconnectGrace() time.Duration {
	d, _ := parseDuration(n.MaxDisconnect)
	return d
}

// TimeLimit returns the stage's time limit, 0 for none.
func (n StageSpec) TimeLimit() time.Duration {
	d, _ := parseDuration(n.Timeout)
	return d
}
