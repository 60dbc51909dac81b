package nodeagent

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/shirou/gopsutil/v4/disk"
)

// How often old jobs are looked for, and how long one is safe whatever the disk
// says: its next attempt may be on its way.
const (
	gcInterval = 10 * time.Minute
	gcMinAge   = time.Hour
)

// touchJob marks a job's folder as used.
func (a *Agent) touchJob(job string, now time.Time) { _ = os.Chtimes(a.jobDir(job), now, now) }

// collectGarbage removes what jobs without assignments have left, by age and,
// when the disk runs full, earlier.
func (a *Agent) collectGarbage(ctx context.Context) {
	for {
		free := int64(-1)
		if usage, err := disk.UsageWithContext(ctx, a.cfg.Dir); err == nil {
			free = int64(usage.Free)
		}
		a.collect(time.Now(), free >= 0 && free < a.cfg.MinFreeBytes)
		if !sleep(ctx, gcInterval) {
			return
		}
	}
}

// clearBroken removes checkpoints that an agent was downloading when it was
// killed. Nobody downloads any before the agent has come up.
func (a *Agent) clearBroken() {
	left, _ := filepath.Glob(filepath.Join(a.cfg.Dir, "jobs", "*", "checkpoints", restoring))
	for _, dir := range left {
		if err := os.RemoveAll(dir); err != nil {
			a.cfg.Logger.Warn("a checkpoint that was not downloaded whole cannot be removed", "dir", dir, "error", err)
		}
	}
}

func (a *Agent) collect(now time.Time, pressed bool) {
	busy := map[string]bool{}
	a.mu.Lock()
	for _, r := range a.runners {
		busy[r.as.JobID] = true
	}
	a.mu.Unlock()
	keep := a.cfg.KeepJobs
	if pressed {
		keep = min(keep, gcMinAge)
		a.cfg.Logger.Warn("little disk is free; cached inputs and old jobs go", "dir", a.cfg.Dir)
		if err := a.cache.Trim(0); err != nil {
			a.cfg.Logger.Warn("cache cannot be trimmed", "error", err)
		}
	}
	entries, err := os.ReadDir(filepath.Join(a.cfg.Dir, "jobs"))
	if err != nil {
		a.cfg.Logger.Warn("old jobs cannot be looked for", "error", err)
		return
	}
	entries = slices.DeleteFunc(entries, func(e os.DirEntry) bool { return !e.IsDir() || busy[e.Name()] })
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || now.Sub(info.ModTime()) < keep {
			continue
		}
		a.cfg.Logger.Info("old job is cleared away", "job", e.Name())
		if err := os.RemoveAll(a.jobDir(e.Name())); err != nil {
			a.cfg.Logger.Warn("old job cannot be removed", "job", e.Name(), "error", err)
		}
	}
}
