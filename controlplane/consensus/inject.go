//go:build !chaos

package consensus

import "github.com/hashicorp/raft"

// injected is what the test build (tag chaos) does before a write to the log.
func injected() func() { return nil }

// hurried lets the test build take snapshots more often.
func hurried(*raft.Config) {}
