//go:build chaos

package controlplane

import (
	"os"
	"strings"
	"time"
)

// clock goes wrong by as much as the file TUNEMESH_CHAOS_ORDERS + ".clock" says
// when the server starts: clocks of hosts differ, and jump while one is down.
func clock() func() time.Time {
	var offset time.Duration
	if text, err := os.ReadFile(os.Getenv("TUNEMESH_CHAOS_ORDERS") + ".clock"); err == nil {
		offset, _ = time.ParseDuration(strings.TrimSpace(string(text)))
	}
	return func() time.Time { return time.Now().Add(offset) }
}
