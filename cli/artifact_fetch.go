package cli

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/api/transfer"
	"github.com/tunemesh/tunemesh/cli/format"
)

// fetchAll brings artifacts to their paths, all of them or none: half of a model
// would look like one.
func (c *call) fetchAll(wanted []api.StageArtifact, paths []string) error {
	s := &staging{}
	defer s.undo()
	for i, a := range wanted {
		err := c.fetchOne(s, a.Artifact, paths[i])
		if noRoom(err) {
			var all int64
			for _, a := range wanted {
				all += a.Size
			}
			return &failure{code: ExitInternal, cause: err,
				title: fmt.Sprintf("the disk is full: %s needs %s, all that is to be fetched %s", clip(a.Name), format.Bytes(a.Size), format.Bytes(all)),
				hint:  "free some space, or fetch to another disk with -o; nothing was left behind"}
		}
		if err != nil {
			return err
		}
	}
	return s.place()
}

// fetchOne writes an artifact next to its place and checks it.
func (c *call) fetchOne(s *staging, a api.Artifact, path string) error {
	if err := s.folder(filepath.Dir(path)); err != nil {
		return unwritable(filepath.Dir(path), err)
	}
	tmp, err := s.file(path)
	if err != nil {
		return unwritable(path, err)
	}
	defer tmp.Close()
	bar := c.progress(filepath.Base(path), a.Size)
	err = c.download(a, tmp, bar)
	bar.end()
	if err != nil {
		return err
	}
	if err := errors.Join(tmp.Chmod(0o644), tmp.Close()); err != nil {
		return unwritable(path, err)
	}
	return nil
}

// unwritable says why a file or folder of the user's choice cannot be made. A
// full disk is not the choice's fault.
func unwritable(path string, err error) error {
	if noRoom(err) {
		return err
	}
	return wrong("choose another place with -o", "%s cannot be written: %s", clip(path), reason(err))
}

// anew is how often a file is fetched from its beginning.
const anew = 3

// download writes an artifact into an empty file, and again from its beginning
// where wrong bytes came.
func (c *call) download(a api.Artifact, to *os.File, bar *progress) error {
	before := bar.line.Done
	for n := 1; ; n++ {
		err := c.mesh.Download(c.ctx, a, bar.writer(to))
		if !errors.Is(err, transfer.ErrCorrupt) || n == anew {
			return err
		}
		bar.line.Done = before
		if err := to.Truncate(0); err != nil {
			return err
		}
		if _, err := to.Seek(0, io.SeekStart); err != nil {
			return err
		}
	}
}

// staging holds files beside their places until all are whole. A file is kept in
// the folder that it will be in, since only within one file system it can be
// moved at once.
type staging struct {
	parts   [][2]string // where it is, where it will be
	folders []string    // made, each after the one that it is in
}

// folder makes a folder and those above it, and notes which were not there.
func (s *staging) folder(path string) error {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil
	}
	if up := filepath.Dir(path); up != path {
		if err := s.folder(up); err != nil {
			return err
		}
	}
	err := os.Mkdir(path, 0o755)
	switch info, _ := os.Stat(path); {
	case err == nil:
		s.folders = append(s.folders, path)
	case info != nil && info.IsDir(): // somebody else's, meanwhile
		return nil
	}
	return err
}

// file opens an empty file beside path.
func (s *staging) file(path string) (*os.File, error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".part-*")
	if err == nil {
		s.parts = append(s.parts, [2]string{tmp.Name(), path})
	}
	return tmp, err
}

// place moves all files to their places.
func (s *staging) place() error {
	for len(s.parts) > 0 {
		if err := os.Rename(s.parts[0][0], s.parts[0][1]); err != nil {
			return unwritable(s.parts[0][1], err)
		}
		s.parts = s.parts[1:]
	}
	s.folders = nil
	return nil
}

// undo removes what is not in its place, and the folders that were made for it.
func (s *staging) undo() {
	for _, p := range s.parts {
		_ = os.Remove(p[0])
	}
	for i := len(s.folders) - 1; i >= 0; i-- {
		_ = os.Remove(s.folders[i]) // unless somebody else has put something in
	}
}
