//go:build linux || darwin || freebsd

package consensus

import "golang.org/x/sys/unix"

// diskFree returns what is free for us and the whole, in bytes.
func diskFree(dir string) (free, total uint64, ok bool) {
	var s unix.Statfs_t
	if unix.Statfs(dir, &s) != nil {
		return 0, 0, false
	}
	return uint64(s.Bavail) * uint64(s.Bsize), s.Blocks * uint64(s.Bsize), true
}
