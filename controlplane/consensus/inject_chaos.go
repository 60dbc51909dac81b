//go:build chaos

package consensus

import (
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/raft"
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

// hurried takes a snapshot after as many entries as the file
// TUNEMESH_CHAOS_ORDERS + ".snapshots" says when the server starts, and keeps half
// as many in the log behind it: what otherwise takes hours of a busy mesh, a
// server that has to be given a snapshot among it, happens within seconds.
func hurried(c *raft.Config) {
	text, err := os.ReadFile(os.Getenv("TUNEMESH_CHAOS_ORDERS") + ".snapshots")
	if err != nil {
		return
	}
	if n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64); err == nil {
		c.SnapshotThreshold, c.TrailingLogs, c.SnapshotInterval = n, n/2, 500*time.Millisecond
	}
}
