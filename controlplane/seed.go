package controlplane

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// bundleError: a bundled model cannot be read, which waiting does not mend.
type bundleError struct{ error }

// seedModels puts the configured base models into the mesh, those that it does
// not hold yet. Only a leader may.
func (s *Server) seedModels(ctx context.Context) error {
	for name, files := range s.config.Models {
		described, err := describeModel(name, files)
		if err != nil {
			return &bundleError{err}
		}
		if have, err := s.raft.Store().Model(name); err == nil && have.SHA256 == described.SHA256 {
			continue
		}
		for i, f := range described.Files {
			data, err := fs.ReadFile(files, f.Name)
			if err != nil {
				return &bundleError{fmt.Errorf("controlplane: bundled model %s: %w", name, err)}
			}
			if _, err := s.objects.PutBytes(ctx, f.Bucket, f.Key, data); err != nil {
				return fmt.Errorf("controlplane: store bundled model %s: %w", name, err)
			}
			described.Files[i] = f
		}
		described.CreatedAt = time.Now().UTC()
		// A new release brings a new model under the old name: it replaces the old.
		if _, err := s.raft.Apply(ctx, state.CreateModel{Model: described, Replace: true}); err != nil {
			return fmt.Errorf("controlplane: record bundled model %s: %w", name, err)
		}
		s.config.Log.Info("base model is in the mesh", "model", name, "files", len(described.Files))
	}
	return nil
}

// describeModel names a model's files by their hashes, in the order of a walk,
// which is that of the names.
func describeModel(name string, files fs.FS) (api.Model, error) {
	m := api.Model{Name: name}
	var listed []api.ModelFile
	err := fs.WalkDir(files, ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := fs.ReadFile(files, path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		f := api.ModelFile{Name: path, Size: int64(len(data)), SHA256: hex.EncodeToString(sum[:])}
		listed = append(listed, f)
		m.Files = append(m.Files, api.Artifact{Name: f.Name, Bucket: api.BucketModels, Size: f.Size, SHA256: f.SHA256})
		if path == "config.json" {
			var c struct{ Architectures []string }
			if err := json.Unmarshal(data, &c); err != nil {
				return fmt.Errorf("config.json: %w", err)
			}
			m.Architecture = strings.Join(c.Architectures, ",")
		}
		return nil
	})
	if err != nil {
		return m, fmt.Errorf("controlplane: bundled model %s: %w", name, err)
	}
	m.SHA256 = api.ModelSHA256(listed)
	for i := range m.Files {
		m.Files[i].Key = artifacts.ModelKey(name, m.SHA256, m.Files[i].Name)
	}
	return m, nil
}
