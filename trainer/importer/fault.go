package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/tunemesh/tunemesh/trainer/weights"
)

// withinError is an error in whose text files are named as their owner knows them: within the
// source, and not by the folders that exist only for this import.
type withinError struct {
	text string
	err  error
}

func (e *withinError) Error() string { return e.text }
func (e *withinError) Unwrap() error { return e.err }

func within(err error, folders ...string) error {
	text := err.Error()
	for _, f := range folders {
		f = filepath.Clean(f)
		text = strings.NewReplacer("gguf: import "+f+": ", "", "gguf: "+f+": ", "", f+string(filepath.Separator), "").Replace(text)
	}
	return &withinError{text, err}
}

// Refused says that an Import failed because of what the model is, so that the same bytes will
// be refused again with the same options. A disk's fault and a context that ended do not.
func Refused(err error) bool {
	var path *fs.PathError
	var number syscall.Errno
	return err != nil && !errors.As(err, &path) && !errors.As(err, &number) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
}

// noModel says why a file is none.
func noModel(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	head := make([]byte, 64)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return err
	}
	if weights.IsPointer(head[:n]) {
		return errors.New(weights.PointerFault)
	}
	return fmt.Errorf("neither a folder nor a GGUF file; give the folder that holds config.json, or a .gguf")
}
