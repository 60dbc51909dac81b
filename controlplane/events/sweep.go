package events

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Sweep removes the logs of jobs whose events are all archived and that nobody
// has appended to for a time: they are read from the archive from then on, and
// go on after it. It returns how many it removed.
func (d *Disk) Sweep(ctx context.Context, idle time.Duration) (removed int, err error) {
	entries, err := os.ReadDir(d.config.Dir)
	if err != nil {
		return 0, fmt.Errorf("events: sweep: %w", err)
	}
	var faults []error
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return removed, err
		}
		job := e.Name()
		if !e.IsDir() || checkNames(job, SourceState) != nil {
			continue
		}
		base := d.config.Base(job)
		if base.Last == 0 || !d.idle(job, idle) {
			continue
		}
		gone, err := d.removeArchived(job, base)
		if err != nil {
			faults = append(faults, err)
		}
		if gone {
			removed++
		}
	}
	return removed, errors.Join(faults...)
}

// idle says whether a job's newest segment was last written some time ago.
func (d *Disk) idle(job string, idle time.Duration) bool {
	names, err := segmentNames(filepath.Join(d.config.Dir, job))
	if err != nil || len(names) == 0 {
		return err == nil
	}
	info, err := os.Stat(names[len(names)-1])
	return err == nil && d.config.Now().Sub(info.ModTime()) >= idle
}

// removeArchived removes a job's folder unless it has events that are not
// archived, or somebody uses it right now: then the next sweep comes.
func (d *Disk) removeArchived(job string, base Base) (removed bool, err error) {
	var last uint64
	if err := d.with(job, false, func(l *jobLog) error { last = l.last(); return nil }); err != nil {
		return false, err
	}
	if last > base.Last {
		return false, nil
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	// While mu is held nobody can begin to use the job.
	if d.closed {
		return false, nil
	}
	if e := d.open[job]; e != nil {
		h := e.Value.(*handle)
		if h.refs > 0 || h.log == nil || h.log.last() > base.Last {
			return false, nil
		}
		delete(d.open, job)
		d.recent.Remove(e)
		if err := h.log.close(); err != nil {
			return false, err
		}
	}
	if err := os.RemoveAll(filepath.Join(d.config.Dir, job)); err != nil {
		return false, fmt.Errorf("events: sweep job %s: %w", job, err)
	}
	return true, nil
}
