package events

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// openJob opens a job's log or makes it. Of the newest segment what a crash left
// torn is cut off: it was never acknowledged.
func openJob(dir, job string, c DiskConfig, ring func()) (*jobLog, error) {
	l := &jobLog{dir: dir, job: job, config: c, ring: ring, sources: map[string]uint64{}, life: newLife()}
	base := c.Base(job)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("events: make %s: %w", dir, err)
	}
	names, err := segmentNames(dir)
	if err != nil {
		return nil, err
	}
	for len(names) > 0 {
		last := names[len(names)-1]
		data, err := os.ReadFile(last)
		if err != nil {
			return nil, fmt.Errorf("events: read segment: %w", err)
		}
		s, err := parseSegment(data)
		if err != nil && len(names) > 1 {
			// A crash between making the file and its header; nothing in it was
			// acknowledged, since the header is durable before the first event.
			if err := os.Remove(last); err != nil {
				return nil, fmt.Errorf("events: remove torn segment: %w", err)
			}
			names = names[:len(names)-1]
			continue
		}
		if err != nil && !strings.HasSuffix(last, fmt.Sprintf("%020d.log", 1)) && bytes.IndexByte(data, '\n') >= 0 {
			return nil, fmt.Errorf("events: %s: %w: restore it or remove the folder of job %s", last, err, job)
		}
		if err != nil {
			break // the very first segment, torn while it was made
		}
		if err := l.resume(names, s, int64(len(data))); err != nil {
			return nil, err
		}
		return l, l.rebase(base)
	}
	if err := syncDir(c.Dir); err != nil {
		return nil, fmt.Errorf("events: fsync %s: %w", c.Dir, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l, l.beginAtLocked(base)
}

// resume takes over the newest segment as it was read.
func (l *jobLog) resume(names []string, s segmentData, size int64) error {
	for _, name := range names {
		base, err := baseOf(name)
		if err != nil {
			return err
		}
		info, err := os.Stat(name)
		if err != nil {
			return fmt.Errorf("events: %w", err)
		}
		l.segments = append(l.segments, segment{path: name, base: base, size: info.Size()})
	}
	last := names[len(names)-1]
	if l.segments[len(names)-1].base != s.base {
		return fmt.Errorf("events: %s begins with event %d", last, s.base)
	}
	f, err := os.OpenFile(last, os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("events: open segment: %w", err)
	}
	if size > s.good {
		l.config.Log.Warn("the end of an event log was torn and is cut off", "job", l.job, "bytes", size-s.good)
		err = f.Truncate(s.good)
	}
	// What is there becomes readable, so it must be durable.
	if err == nil {
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(fmt.Errorf("events: repair %s: %w", last, err), f.Close())
	}
	l.file, l.size, l.sources, l.life, l.seed = f, s.good, s.sources, s.life, s.seed
	l.written = s.base + uint64(len(s.records)) - 1
	l.committed = l.written
	for i, r := range s.records {
		l.markLocked(s.base+uint64(i), r.offset)
	}
	return nil
}

// segmentNames lists a job's segments, oldest first.
func segmentNames(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("events: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), ".log") && e.Type().IsRegular() {
			names = append(names, filepath.Join(dir, e.Name()))
		}
	}
	slices.Sort(names)
	return names, nil
}

func baseOf(path string) (uint64, error) {
	var base uint64
	name := filepath.Base(path)
	if _, err := fmt.Sscanf(name, "%020d.log", &base); err != nil || name != fmt.Sprintf("%020d.log", base) {
		return 0, fmt.Errorf("events: %s is no segment's name", path)
	}
	return base, nil
}
