// Package atomicfile writes files that appear under their name whole and durable,
// or not at all: a temporary file beside it, fsync, rename, fsync of the folder.
// It knows nothing of what is in them.
package atomicfile

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// File is being written. It is for one goroutine.
type File struct {
	path string
	file *os.File // nil once it is committed or aborted
	buf  *bufio.Writer
}

// Create begins to write the file path; nothing is seen under that name before
// Commit.
func Create(path string) (*File, error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return nil, err
	}
	return &File{path: path, file: f, buf: bufio.NewWriterSize(f, 1<<20)}, nil
}

// Write appends p.
func (f *File) Write(p []byte) (int, error) {
	if f.file == nil {
		return 0, fmt.Errorf("write %s: %w", f.path, os.ErrClosed)
	}
	return f.buf.Write(p)
}

// Commit makes the file durable under its name, readable by everyone. If it fails
// what was written is gone, unless the fault was in the last step, the folder's
// sync.
func (f *File) Commit() error {
	if f.file == nil {
		return fmt.Errorf("commit %s: %w", f.path, os.ErrClosed)
	}
	tmp := f.file.Name()
	err := errors.Join(f.buf.Flush(), f.file.Chmod(0o644), f.file.Sync(), f.file.Close())
	f.file = nil
	if err == nil {
		err = os.Rename(tmp, f.path)
	}
	if err != nil {
		os.Remove(tmp)
		return err
	}
	return syncDir(filepath.Dir(f.path))
}

// Abort removes what was written. After Commit it does nothing, so that it can be
// deferred.
func (f *File) Abort() {
	if f.file == nil {
		return
	}
	f.file.Close()
	os.Remove(f.file.Name())
	f.file = nil
}

// syncDir makes a rename durable. Not every system can sync a folder; where it
// cannot, the rename is as durable as that system makes it.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	_ = d.Sync()
	return nil
}
