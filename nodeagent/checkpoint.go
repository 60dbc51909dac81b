package nodeagent

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/transfer"
	"github.com/tunemesh/tunemesh/failpoint"
)

// copyCheckpoints uploads announced checkpoints in order, until noMore is
// closed and none is left. A checkpoint that cannot be had any more is passed
// over: there is a newer one, or the stage did without.
func (r *runner) copyCheckpoints(ctx context.Context, noMore <-chan struct{}) {
	failures := 0
	for {
		last := closed(noMore)
		name, ok := r.ship.next()
		if !ok {
			if last {
				return
			}
			select {
			case <-r.ship.wake:
			case <-noMore:
			case <-ctx.Done():
				return
			}
			continue
		}
		err := r.copyCheckpoint(ctx, name)
		switch {
		case ctx.Err() != nil:
			return
		case err == nil:
			r.log.Info("checkpoint uploaded", "checkpoint", name)
		case isStale(err) || errors.Is(err, errStale):
			r.stop(reasonStale)
			return
		case isNotStored(err) && failures < refusals:
			failures++
			r.log.Warn("the object store lacks files of a checkpoint: they are sent again", "checkpoint", name)
			if err := r.sent.forget(name); err != nil {
				r.log.Warn("the list of sent files cannot be kept", "error", err)
			}
			if !sleep(ctx, r.a.backoff(failures)) {
				return
			}
			continue
		case errors.Is(err, transfer.ErrChanged) && failures < 3, !errors.Is(err, fs.ErrNotExist) && !isRefused(err) && failures < refusals:
			failures++
			r.log.Warn("checkpoint upload is tried again", "checkpoint", name, "error", err)
			if !sleep(ctx, r.a.backoff(failures)) {
				return
			}
			continue
		default:
			r.log.Warn("checkpoint is passed over", "checkpoint", name, "error", err)
		}
		failures = 0
		if err := r.ship.settled(name); err != nil {
			r.log.Warn("checkpoint queue cannot be kept", "error", err)
		}
		if err := r.sent.forget(name); err != nil {
			r.log.Warn("the list of sent files cannot be kept", "error", err)
		}
	}
}

func (r *runner) copyCheckpoint(ctx context.Context, name string) error {
	root, err := os.OpenRoot(r.a.checkpointDir(r.as))
	if err != nil {
		return err
	}
	defer root.Close()
	files, err := listFiles(ctx, root, name, "", "")
	if err != nil {
		return err
	}
	for i := range files {
		if files[i].Name == "" { // the checkpoint is one file
			files[i].Name = name
		}
	}
	if len(files) == 0 {
		return fs.ErrNotExist
	}
	done, err := r.upload(ctx, name, files)
	if err != nil {
		return err
	}
	if err := failpoint.At(failpoint.CheckpointUnreported); err != nil {
		return err
	}
	if err := r.a.cp.ReportCheckpoint(ctx, r.as.Fence, api.CheckpointReport{Name: name, Files: done}); err != nil {
		return err
	}
	return failpoint.At(failpoint.CheckpointUnsettled)
}
