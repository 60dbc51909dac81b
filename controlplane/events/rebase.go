package events

import (
	"crypto/rand"
	"errors"
	"fmt"
	"maps"
	"os"
	"strings"
)

// newLife names a stream's life.
func newLife() string { return strings.ToLower(rand.Text()[:10]) }

// lostLocked notes that the log has lost events: what comes again may stand in
// another order. An empty stream has nothing whose numbers could be mistaken.
func (l *jobLog) lostLocked() {
	if l.written >= l.segments[0].base {
		l.life, l.newLife = newLife(), true
	}
}

// agree makes the stream one that goes on after what is archived.
func (l *jobLog) agree(base Base) error {
	l.mu.Lock()
	known := base.Last <= l.checked
	l.mu.Unlock()
	if known {
		return nil
	}
	return l.rebase(base)
}

// rebase begins the stream anew after a base that it does not agree with: the
// archive was made from another server's stream, or from what this one has lost.
func (l *jobLog) rebase(base Base) error {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.broken != nil {
		return l.broken
	}
	if base.Last <= l.checked || (l.written >= base.Last && (l.life == base.Life || l.seed >= base.Last)) {
		l.checked = max(l.checked, base.Last)
		return nil
	}
	l.config.Log.Warn("a job's event log is not the one that was archived and begins anew after the archive", "job", l.job, "had", l.written, "archived", base.Last)
	// From the newest back: what a crash leaves is still not what was archived.
	for len(l.segments) > 0 {
		last := l.segments[len(l.segments)-1]
		if err := os.Remove(last.path); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("events: %w", err)
		}
		l.segments = l.segments[:len(l.segments)-1]
	}
	old := l.file
	l.newest, l.pending, l.inMemory = nil, nil, 0
	l.life = newLife()
	if err := l.beginAtLocked(base); err != nil {
		l.broken = err
		return err
	}
	l.ring()
	return old.Close()
}

// beginAtLocked begins an empty stream after a base.
func (l *jobLog) beginAtLocked(base Base) error {
	l.written, l.committed, l.seed, l.checked = base.Last, base.Last, base.Last, base.Last
	if l.sources = maps.Clone(base.Sources); l.sources == nil {
		l.sources = map[string]uint64{}
	}
	return l.beginSegmentLocked()
}

func (l *jobLog) lifeNow() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.life
}

// position first makes durable what is written: only then the sources' numbers
// and the last event belong together.
func (l *jobLog) position() (Position, error) {
	l.syncing.Lock()
	defer l.syncing.Unlock()
	for {
		l.mu.Lock()
		written := l.written
		if l.committed == written || l.broken != nil {
			defer l.mu.Unlock()
			return Position{Life: l.life, First: l.segments[0].base, Last: l.committed, Sources: maps.Clone(l.sources)}, l.broken
		}
		l.mu.Unlock()
		if err := l.commitSyncing(written); err != nil {
			return Position{}, err
		}
	}
}

// retainLocked removes the oldest segments where the stream is larger or older
// than it may be. The newest two stay: the one that is written, and its events'
// predecessors, which readers are at.
func (l *jobLog) retainLocked() {
	var size int64
	for _, s := range l.segments {
		size += s.size
	}
	for len(l.segments) > 2 {
		oldest := l.segments[0]
		over := l.config.KeepBytes > 0 && size > l.config.KeepBytes
		if !over && l.config.KeepFor > 0 {
			info, err := os.Stat(oldest.path)
			over = err == nil && l.config.Now().Sub(info.ModTime()) > l.config.KeepFor
		}
		if !over {
			return
		}
		if err := os.Remove(oldest.path); err != nil {
			l.config.Log.Warn("an old segment of an event log cannot be removed", "job", l.job, "err", err)
			return
		}
		size -= oldest.size
		l.segments = l.segments[1:]
	}
}
