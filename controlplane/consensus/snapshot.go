package consensus

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/hashicorp/raft"

	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/failpoint"
)

// indexGap is how far a restore moves the index on from the backup's. Between
// the backup and the loss of its cluster that one gave out fences that are not in
// the backup and must never be given out again: to agents that still hold them
// they would be the fences of other stages, and objects lie under them. Four
// thousand million entries are more than a cluster writes between two backups,
// and 2^64 has room for as many restores.
const indexGap = 1 << 32

// Snapshot returns the state as it is now, with the Raft term.
func (n *Node) Snapshot() (state.View, uint64) { return n.store.At(), n.raft.CurrentTerm() }

// Restore replaces the state of the whole cluster by a backup's: what
// state.View.WriteSnapshot wrote. Only the leader can. Everything is read and
// checked before anything changes; servers, keyring and tokens of this cluster
// stay, see state.Store.Graft. When it returns without error a quorum has the
// new state; ErrUnknownOutcome means that one may get it yet.
func (n *Node) Restore(ctx context.Context, r io.Reader) error {
	if !n.IsLeader() {
		return n.notLeader()
	}
	loaded, err := state.New()
	if err != nil {
		return err
	}
	if err := loaded.Restore(r); err != nil {
		return fmt.Errorf("consensus: restore: %w", err)
	}
	index := max(loaded.Index(), n.raft.LastIndex()) + indexGap
	if err := loaded.Graft(n.store.At(), index); err != nil {
		return fmt.Errorf("consensus: restore: %w", err)
	}
	f, size, err := n.spill(loaded.At())
	if err != nil {
		return fmt.Errorf("consensus: restore: %w", err)
	}
	defer func() { _ = errors.Join(f.Close(), os.Remove(f.Name())) }()
	if err := failpoint.At(failpoint.BackupUnproposed); err != nil {
		return err
	}
	ctx, cancel := n.bounded(ctx)
	defer cancel()
	done := make(chan error, 1)
	n.loops.Go(func() {
		done <- n.raft.Restore(&raft.SnapshotMeta{Version: raft.SnapshotVersionMax, Index: index, Size: size}, f, timeLeft(ctx))
	})
	// Not given up early: Raft reads the file.
	if err := <-done; err != nil {
		return fmt.Errorf("consensus: restore: %w", n.meaning(err))
	}
	return nil
}

// spilled are the temporary files of spill.
const spilled = "restore-*"

// sweep removes what servers that were killed left in a directory that nobody
// else uses now: snapshots without a name, which Raft passes over and keeps, and
// backups on their way into the cluster.
func sweep(dir string) error {
	var faults []error
	for _, pattern := range []string{filepath.Join("snapshots", "*.tmp"), spilled} {
		left, err := filepath.Glob(filepath.Join(dir, pattern))
		faults = append(faults, err)
		for _, path := range left {
			faults = append(faults, os.RemoveAll(path))
		}
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("consensus: remove what a crash left in %s: %w", dir, err)
	}
	return nil
}

// spill writes a state into a temporary file beside the log.
func (n *Node) spill(v state.View) (*os.File, int64, error) {
	f, err := os.CreateTemp(n.config.Dir, spilled)
	if err != nil {
		return nil, 0, err
	}
	err = v.WriteSnapshot(f)
	var size int64
	if err == nil {
		size, err = f.Seek(0, io.SeekCurrent)
	}
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return nil, 0, errors.Join(err, f.Close(), os.Remove(f.Name()))
	}
	return f, size, nil
}
