package consensus

import (
	"fmt"
	"time"

	"github.com/hashicorp/raft"

	"github.com/tunemesh/tunemesh/failpoint"
)

// watchdog ends a server whose log write hangs. While a leader's disk hangs its
// heartbeats go on, so that no other is elected and the mesh stands still
// (raft#503; seen here too, 20 s without a new leader). To return an error
// instead would let the late write land after all.
type watchdog struct {
	Log
	limit time.Duration
	fatal func(error)
	// wrote goes before a write, in tests and in the test build.
	wrote func()
}

func (w *watchdog) watch(what string, write func() error) error {
	timer := time.AfterFunc(w.limit, func() {
		w.fatal(fmt.Errorf("consensus: %w: %s has not returned for %s; this server stops so that another can lead. Look at the disk", ErrStalled, what, w.limit))
	})
	defer timer.Stop()
	if w.wrote != nil {
		w.wrote()
	}
	return write()
}

// StoreLog implements raft.LogStore.
func (w *watchdog) StoreLog(l *raft.Log) error { return w.StoreLogs([]*raft.Log{l}) }

// StoreLogs implements raft.LogStore.
func (w *watchdog) StoreLogs(logs []*raft.Log) error {
	err := w.watch("a write to the log", func() error { return w.Log.StoreLogs(logs) })
	if err == nil {
		_ = failpoint.At(failpoint.EntriesUnacknowledged)
	}
	return err
}

// Set implements raft.StableStore.
func (w *watchdog) Set(key, value []byte) error {
	return w.watch("a write of a vote", func() error { return w.Log.Set(key, value) })
}

// SetUint64 implements raft.StableStore.
func (w *watchdog) SetUint64(key []byte, v uint64) error {
	return w.watch("a write of the term", func() error { return w.Log.SetUint64(key, v) })
}
