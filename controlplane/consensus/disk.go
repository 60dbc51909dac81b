package consensus

import (
	"fmt"
	"sync"
	"time"
)

// diskGuard refuses proposals while the disk is nearly full: a full one stops
// the log in mid-write, and then nothing can be deleted through the mesh either.
type diskGuard struct {
	dir        string
	minPercent float64
	minBytes   uint64

	mu      sync.Mutex
	checked time.Time
	err     error
}

// diskCheckEvery is how long an answer holds; asking costs a system call.
const diskCheckEvery = 2 * time.Second

func (g *diskGuard) check() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if time.Since(g.checked) < diskCheckEvery {
		return g.err
	}
	g.checked, g.err = time.Now(), nil
	free, total, ok := diskFree(g.dir)
	if ok && total > 0 && float64(free)/float64(total)*100 < g.minPercent && free < g.minBytes {
		g.err = fmt.Errorf("consensus: %w: %d MiB of %d MiB are free in %s: free some space", ErrDiskFull, free>>20, total>>20, g.dir)
	}
	return g.err
}
