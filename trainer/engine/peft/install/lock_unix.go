//go:build unix

package install

import (
	"fmt"
	"os"
	"syscall"
)

// lock lets one installation work on a folder at a time; the system gives the
// lock up when the process ends, however it does.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("engine install: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("engine install: another installation works on this folder (%s)", path)
	}
	return func() { _ = f.Close() }, nil
}
