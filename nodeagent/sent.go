package nodeagent

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/failpoint"
)

// sentFiles is what an attempt has sent to the object store, for the agent that
// goes on with it. It may lag behind what is there; what it names the control
// plane checks before a report is accepted.
type sentFiles struct {
	path string

	mu    sync.Mutex
	files map[string]sentFile // by checkpoint, place and name
	dirty bool
	saved time.Time
}

type sentFile struct {
	Size   int64  `json:"size"`
	SHA256 string `json:"sha256"`
	// UploadID is that of an upload in parts which was begun.
	UploadID string `json:"upload_id,omitempty"`
	// Stored is where the file lies once it does.
	Stored *api.Artifact `json:"stored,omitempty"`
}

// sentEvery is the least time between two writes for whole files: one that is
// not written down is sent again.
const sentEvery = 500 * time.Millisecond

func loadSent(path string) (*sentFiles, error) {
	s := &sentFiles{path: path, files: map[string]sentFile{}}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, fmt.Errorf("nodeagent: %w", err)
	}
	if json.Unmarshal(data, &s.files) != nil || s.files == nil {
		s.files = map[string]sentFile{} // send all
	}
	return s, nil
}

func sentKey(checkpoint string, f api.UploadFile) string {
	return checkpoint + "\x00" + f.Place + "\x00" + f.Name
}

func (s *sentFiles) find(checkpoint string, f api.UploadFile) (sentFile, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	have, ok := s.files[sentKey(checkpoint, f)]
	return have, ok && have.Size == f.Size && have.SHA256 == f.SHA256
}

// stored says where a file lies that was sent.
func (s *sentFiles) stored(checkpoint string, f api.UploadFile) (api.Artifact, bool) {
	have, ok := s.find(checkpoint, f)
	if !ok || have.Stored == nil {
		return api.Artifact{}, false
	}
	return *have.Stored, true
}

// begun is the id of the upload in parts of a file; empty: there is none.
func (s *sentFiles) begun(checkpoint string, f api.UploadFile) string {
	have, ok := s.find(checkpoint, f)
	if !ok {
		return ""
	}
	return have.UploadID
}

// begin writes an upload's id down before anything is sent for it.
func (s *sentFiles) begin(checkpoint string, f api.UploadFile, id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[sentKey(checkpoint, f)] = sentFile{Size: f.Size, SHA256: f.SHA256, UploadID: id}
	return s.saveLocked()
}

// keep notes that a file is stored.
func (s *sentFiles) keep(checkpoint string, f api.UploadFile, at api.Artifact) error {
	_ = failpoint.At(failpoint.FileUnnoted)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files[sentKey(checkpoint, f)] = sentFile{Size: f.Size, SHA256: f.SHA256, Stored: &at}
	s.dirty = true
	if time.Since(s.saved) < sentEvery {
		return nil
	}
	return s.saveLocked()
}

// forget drops what is known of a checkpoint's files, or of the artifacts where
// checkpoint is empty.
func (s *sentFiles) forget(checkpoint string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for key := range s.files {
		if strings.HasPrefix(key, checkpoint+"\x00") {
			delete(s.files, key)
			s.dirty = true
		}
	}
	return s.flushLocked()
}

// flush has all on disk.
func (s *sentFiles) flush() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.flushLocked()
}

func (s *sentFiles) flushLocked() error {
	if !s.dirty {
		return nil
	}
	return s.saveLocked()
}

func (s *sentFiles) saveLocked() error {
	data, err := json.Marshal(s.files)
	if err == nil {
		err = writeFile(s.path, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("nodeagent: list of sent files: %w", err)
	}
	s.dirty, s.saved = false, time.Now()
	return nil
}
