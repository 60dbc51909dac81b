package spool

import (
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Watch tells when a file grows (inotify(7)).
type Watch struct {
	f    *os.File
	grew chan struct{}
	done chan struct{}
}

// NewWatch watches a file. An error means that the caller must look for itself:
// the kernel's limit of watches is reached.
func NewWatch(path string) (*Watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("spool: watch: %w", err)
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, path, unix.IN_MODIFY); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("spool: watch %s: %w", path, err)
	}
	w := &Watch{f: f, grew: make(chan struct{}, 1), done: make(chan struct{})}
	go w.run()
	return w, nil
}

// Grew holds at most one message: the file grew since the last was taken.
func (w *Watch) Grew() <-chan struct{} { return w.grew }

func (w *Watch) run() {
	defer close(w.done)
	// Events have no name, since a file is watched; equal ones are one.
	buf := make([]byte, 16*unsafe.Sizeof(unix.InotifyEvent{}))
	for {
		if n, err := w.f.Read(buf); err != nil || n == 0 {
			return
		}
		select {
		case w.grew <- struct{}{}:
		default:
		}
	}
}

// Close ends the watch.
func (w *Watch) Close() error {
	err := w.f.Close()
	<-w.done
	return err
}
