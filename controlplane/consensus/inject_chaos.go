//go:build chaos

package consensus

import (
	"os"
	"strings"
	"time"
)

// injected makes writes to the log as slow as the file TUNEMESH_CHAOS_ORDERS +
// ".fsync" says, while it is there: a disk that is slow, or hangs.
func injected() func() {
	path := os.Getenv("TUNEMESH_CHAOS_ORDERS") + ".fsync"
	return func() {
		text, err := os.ReadFile(path)
		if err != nil {
			return
		}
		if d, err := time.ParseDuration(strings.TrimSpace(string(text))); err == nil {
			time.Sleep(d)
		}
	}
}
