//go:build linux

package chaos

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/tunemesh/tunemesh/failpoint"
)

// orders is the folder that says what processes of the test build do at a point.
func (m *mesh) orders() string { return filepath.Join(m.dir, "failpoints") }

// order tells the next process that reaches a point what to do there.
func (m *mesh) order(p failpoint.Point, what string) error {
	path := filepath.Join(m.orders(), string(p))
	if err := errors.Join(os.MkdirAll(m.orders(), 0o755), os.WriteFile(path+".new", []byte(what), 0o644)); err != nil {
		return err
	}
	_ = os.Remove(path + ".done") // of the round before
	return os.Rename(path+".new", path)
}

// obeyed waits until a process has reached the point.
func (m *mesh) obeyed(p failpoint.Point, limit time.Duration) error {
	return m.eventually(limit, func() error {
		_, err := os.Stat(filepath.Join(m.orders(), string(p)+".done"))
		if errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("nobody has come to %s", p)
		}
		return err
	})
}

// remains are files that a crash left and nobody removes.
func (m *mesh) remains() []string {
	var out []string
	for _, s := range m.servers {
		for _, pattern := range []string{"raft/restore-*", "tmp/*", "raft/snapshots/*.tmp"} {
			found, _ := filepath.Glob(filepath.Join(s.dir, pattern))
			out = append(out, found...)
		}
	}
	for _, a := range m.agents {
		for _, pattern := range []string{"attempts/*", "jobs/*/checkpoints/.restore-*", "jobs/*/checkpoints/*/.tmp-*", "cache/partial/*"} {
			found, _ := filepath.Glob(filepath.Join(a.dir, pattern))
			out = append(out, found...)
		}
	}
	return out
}
