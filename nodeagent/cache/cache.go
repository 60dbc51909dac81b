package cache

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"sort"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tunemesh/tunemesh/api/transfer"
)

// ErrCorrupt: the bytes behind a link do not have the hash they should have.
var ErrCorrupt = transfer.ErrCorrupt

// sealed is the modification time of every whole file. A stage that writes into
// its input, which is a link to the same file, changes it, and the file is
// hashed again before it is next used.
var sealed = time.Unix(1_000_000_000, 0)

// Item names bytes and where to get them.
type Item struct {
	SHA256 string // 64 hex digits
	Size   int64  // bytes
	URL    string
}

// Cache is a folder of files named by their hash:
//
//	blobs/ab/abcdef...   whole files, read-only
//	used/abcdef...       empty; its time is when the blob was last wanted
//	partial/abcdef...    the beginning of a file
type Cache struct {
	dir    string
	max    int64
	client transfer.Client

	mu   sync.Mutex
	busy map[string]chan struct{} // fetches in flight; closed at their end
	pins map[string]int           // blobs that may not be evicted

	hits, misses atomic.Uint64
}

// Stats are the cache's figures since it was opened.
type Stats struct {
	Bytes, Limit int64
	Hits, Misses uint64
}

// Stats looks at the folder for its size.
func (c *Cache) Stats() Stats {
	s := Stats{Limit: c.max, Hits: c.hits.Load(), Misses: c.misses.Load()}
	_ = filepath.WalkDir(filepath.Join(c.dir, "blobs"), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				s.Bytes += info.Size()
			}
		}
		return nil // a blob that vanishes meanwhile is none
	})
	return s
}

// Open opens a cache that keeps at most max bytes, as far as what is in use
// allows.
func Open(dir string, max int64, client transfer.Client) (*Cache, error) {
	for _, sub := range []string{"blobs", "used", "partial"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o750); err != nil {
			return nil, fmt.Errorf("cache: %w", err)
		}
	}
	return &Cache{dir: dir, max: max, client: client, busy: map[string]chan struct{}{}, pins: map[string]int{}}, nil
}

var hexSum = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Place puts an item's bytes at path, from the cache or from its link. The file
// is read-only, and may share its bytes with the cache.
func (c *Cache) Place(ctx context.Context, it Item, path string) error {
	if !hexSum.MatchString(it.SHA256) {
		return fmt.Errorf("cache: %q is no SHA-256: %w", it.SHA256, ErrCorrupt)
	}
	c.pin(it.SHA256, 1)
	defer c.pin(it.SHA256, -1)
	if err := c.ensure(ctx, it); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return fmt.Errorf("cache: place: %w", err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("cache: place: %w", err)
	}
	if os.Link(c.blob(it.SHA256), path) == nil {
		return nil
	}
	return c.copyOut(it, path) // another file system, or one without links
}

func (c *Cache) copyOut(it Item, path string) error {
	in, err := os.Open(c.blob(it.SHA256))
	if err != nil {
		return fmt.Errorf("cache: place: %w", err)
	}
	defer in.Close()
	out, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o440)
	if err != nil {
		return fmt.Errorf("cache: place: %w", err)
	}
	_, err = io.Copy(out, in)
	if err = errors.Join(err, out.Close()); err != nil {
		return fmt.Errorf("cache: place: %w", err)
	}
	return nil
}

func (c *Cache) blob(sum string) string    { return filepath.Join(c.dir, "blobs", sum[:2], sum) }
func (c *Cache) partial(sum string) string { return filepath.Join(c.dir, "partial", sum) }
func (c *Cache) used(sum string) string    { return filepath.Join(c.dir, "used", sum) }

func (c *Cache) pin(sum string, by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pins[sum] += by; c.pins[sum] <= 0 {
		delete(c.pins, sum)
	}
}

// ensure has the blob there and whole. Only one caller fetches; others wait for
// it and look again.
func (c *Cache) ensure(ctx context.Context, it Item) error {
	for {
		c.mu.Lock()
		wait, inFlight := c.busy[it.SHA256]
		if !inFlight {
			c.busy[it.SHA256] = make(chan struct{})
		}
		c.mu.Unlock()
		if !inFlight {
			break
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() {
		c.mu.Lock()
		close(c.busy[it.SHA256])
		delete(c.busy, it.SHA256)
		c.mu.Unlock()
	}()
	if c.whole(it) {
		c.hits.Add(1)
		c.touch(it.SHA256)
		return nil
	}
	c.misses.Add(1)
	if err := c.fetch(ctx, it); err != nil {
		return err
	}
	c.touch(it.SHA256)
	return c.Trim(c.max)
}

// whole says whether the blob is there with the right bytes. Its hash is taken
// again only if somebody has written to it.
func (c *Cache) whole(it Item) bool {
	path := c.blob(it.SHA256)
	info, err := os.Stat(path)
	if err != nil {
		return false
	}
	if info.Size() == it.Size && info.ModTime().Equal(sealed) {
		return true
	}
	if sum, err := hashFile(path); err == nil && sum == it.SHA256 && info.Size() == it.Size {
		return os.Chtimes(path, sealed, sealed) == nil
	}
	_ = os.Remove(path)
	return false
}

func (c *Cache) touch(sum string) {
	now := time.Now()
	if os.Chtimes(c.used(sum), now, now) != nil {
		_ = os.WriteFile(c.used(sum), nil, 0o640)
	}
}

// Trim removes the blobs that were wanted least recently until at most max
// bytes are left, but none in use, and stale beginnings of files.
func (c *Cache) Trim(max int64) error {
	type entry struct {
		sum  string
		size int64
		used time.Time
	}
	var all []entry
	var total int64
	err := filepath.WalkDir(filepath.Join(c.dir, "blobs"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil // gone meanwhile
		}
		e := entry{sum: d.Name(), size: info.Size()}
		if u, err := os.Stat(c.used(e.sum)); err == nil {
			e.used = u.ModTime()
		}
		total += e.size
		all = append(all, e)
		return nil
	})
	if err != nil {
		return fmt.Errorf("cache: trim: %w", err)
	}
	sort.Slice(all, func(i, j int) bool { return all[i].used.Before(all[j].used) })
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range all {
		if total <= max {
			break
		}
		if c.pins[e.sum] > 0 {
			continue
		}
		if err := os.Remove(c.blob(e.sum)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("cache: trim: %w", err)
		}
		_ = os.Remove(c.used(e.sum))
		total -= e.size
	}
	return c.trimPartialLocked()
}

func (c *Cache) trimPartialLocked() error {
	entries, err := os.ReadDir(filepath.Join(c.dir, "partial"))
	if err != nil {
		return fmt.Errorf("cache: trim: %w", err)
	}
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || c.busy[e.Name()] != nil || time.Since(info.ModTime()) < 24*time.Hour {
			continue
		}
		_ = os.Remove(filepath.Join(c.dir, "partial", e.Name()))
	}
	return nil
}
