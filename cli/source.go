package cli

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// source is a file about to be uploaded.
type source struct {
	name string
	body io.Reader // an io.Seeker where the upload can be repeated
	size int64     // -1: not known
	file *os.File
}

// openSource opens a file, or standard input for "-", and refuses early what
// cannot be a dataset.
func openSource(path, name string, stdin io.Reader) (*source, error) {
	if path == "-" {
		if name == "" {
			name = "stdin"
		}
		return peeked(&source{name: name, size: -1}, stdin, "standard input")
	}
	if name == "" {
		name = filepath.Base(path)
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, fileFault(path, err)
	}
	if info.IsDir() {
		return nil, wrong("upload one file; several can be put together before", "%s is a directory, not a file", clip(path))
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, fileFault(path, err)
	}
	src := &source{name: name, body: f, size: info.Size(), file: f}
	if !info.Mode().IsRegular() { // a pipe: its size says nothing
		src.size = -1
		return peeked(src, f, path)
	}
	if src.size == 0 {
		src.close()
		return nil, wrong("a dataset has a header row and data rows", "%s is empty", clip(path))
	}
	return src, nil
}

// peeked waits for the first byte of a stream.
func peeked(src *source, r io.Reader, what string) (*source, error) {
	b := bufio.NewReaderSize(r, 64<<10)
	if _, err := b.Peek(1); err != nil {
		src.close()
		if errors.Is(err, io.EOF) {
			return nil, wrong("a dataset has a header row and data rows", "%s is empty", clip(what))
		}
		return nil, wrong("", "%s cannot be read: %s", clip(what), reason(err))
	}
	src.body = b
	return src, nil
}

func (s *source) close() {
	if s.file != nil {
		_ = s.file.Close()
	}
}

// fileFault says what is wrong with a file, without the operation's name.
func fileFault(path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return wrong("check the path", "there is no file %s", clip(path))
	case errors.Is(err, fs.ErrPermission):
		return wrong("check its permissions", "%s may not be read", clip(path))
	}
	return wrong("", "%s cannot be read: %s", clip(path), reason(err))
}

// reason is the innermost text of a file error.
func reason(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}
