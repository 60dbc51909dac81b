package controlplane

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
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

// seedModels puts the configured base models into the mesh: those that it does not
// hold yet, and those that came with an older program. Only a leader may.
func (s *Server) seedModels(ctx context.Context) error {
	for name, bundled := range s.config.Models {
		described, err := describeModel(name, bundled)
		if err != nil {
			return &bundleError{err}
		}
		kept := s.raft.Store().MinVersion() >= state.SinceKeptModels
		if !kept { // servers that are older yet know less of a model
			described.Parameters, described.License, described.Bundled = 0, "", false
		}
		have, err := s.raft.Store().Model(name)
		switch {
		case err == nil && have.SHA256 == described.SHA256:
			said := have.Parameters == described.Parameters && have.License == described.License && have.Bundled
			if said || !kept {
				continue
			}
			if _, err := s.raft.Apply(ctx, state.CreateModel{Model: described, Amend: true}); err != nil {
				return fmt.Errorf("controlplane: describe bundled model %s: %w", name, err)
			}
			continue
		case err == nil && !have.Bundled && have.Parameters > 0:
			// Somebody put another in its place. Older programs recorded theirs
			// without the number of parameters, which an import always has.
			s.config.Log.Info("the mesh has its own base model in the place of the bundled one", "model", name)
			continue
		case err != nil && !errors.Is(err, state.ErrNotFound):
			return fmt.Errorf("controlplane: look for base model %s: %w", name, err)
		}
		for _, f := range described.Files {
			data, err := fs.ReadFile(bundled.Files, f.Name)
			if err != nil {
				return &bundleError{fmt.Errorf("controlplane: bundled model %s: %w", name, err)}
			}
			if _, err := s.objects.PutBytes(ctx, f.Bucket, f.Key, data); err != nil {
				return fmt.Errorf("controlplane: store bundled model %s: %w", name, err)
			}
		}
		described.CreatedAt = time.Now().UTC()
		// A new release brings a new model under the old name: it replaces the old.
		if _, err := s.raft.Apply(ctx, state.CreateModel{Model: described, Replace: true, Keep: kept}); err != nil {
			return fmt.Errorf("controlplane: record bundled model %s: %w", name, err)
		}
		if err := s.objects.PutManifest(ctx, described); err != nil {
			return err
		}
		s.config.Log.Info("base model is in the mesh", "model", name, "files", len(described.Files))
	}
	return nil
}

// describeModel names a model's files by their hashes, in the order of a walk,
// which is that of the names.
func describeModel(name string, bundled BundledModel) (api.Model, error) {
	m := api.Model{Name: name, Parameters: bundled.Parameters, License: bundled.License, Bundled: true}
	files := bundled.Files
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
		m.Files = append(m.Files, api.Artifact{Name: f.Name, Bucket: api.BucketModels, Key: artifacts.BlobKey(f.SHA256), Size: f.Size, SHA256: f.SHA256})
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
	return m, nil
}
