package artifacts

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"

	"github.com/tunemesh/tunemesh/api"
)

// Manifest says what a base model is made of. It is for people who look into the
// bucket, and for a mesh that has lost its state: the model itself is the one in
// the replicated state.
type Manifest struct {
	Name         string         `json:"name"`
	SHA256       string         `json:"sha256"`
	Architecture string         `json:"architecture"`
	Parameters   int64          `json:"parameters,omitempty"`
	License      string         `json:"license,omitempty"`
	Files        []api.Artifact `json:"files"`
}

// PutManifest writes a model's manifest, if it is not there as it should be.
func (s *Store) PutManifest(ctx context.Context, m api.Model) error {
	data, err := json.MarshalIndent(Manifest{m.Name, m.SHA256, m.Architecture, m.Parameters, m.License, m.Files}, "", "  ")
	if err != nil {
		return fmt.Errorf("artifacts: manifest of %s: %w", m.Name, err)
	}
	data = append(data, '\n')
	key := ManifestKey(m.Name, m.SHA256)
	if there, err := s.stored(ctx, api.BucketModels, key, int64(len(data)), sumOfBytes(data)); err != nil || there {
		return err
	}
	_, err = s.PutBytes(ctx, api.BucketModels, key, data)
	return err
}

// maxManifest is more than a manifest may have, in bytes.
const maxManifest = 4 << 20

func (s *Store) readManifest(ctx context.Context, key string) (m Manifest, err error) {
	r, err := s.Get(ctx, api.BucketModels, key)
	if err != nil {
		return m, err
	}
	data, err := io.ReadAll(io.LimitReader(r, maxManifest))
	if err = errors.Join(err, r.Close()); err == nil {
		err = json.NewDecoder(bytes.NewReader(data)).Decode(&m)
	}
	if err != nil {
		return m, fmt.Errorf("artifacts: read %s/%s: %w", api.BucketModels, key, err)
	}
	return m, nil
}

// Known is what the mesh knows of its base models at the moment.
type Known interface {
	// Current is the SHA-256 of the model of that name; false if there is none.
	Current(model string) (sum string, ok bool)
	// Needed are the keys of the objects that a model has, or a job that may run.
	Needed() map[string]bool
}

// SweepModels removes what older than age is left of base models that nobody needs:
// the bytes of imports that came to no end, and what models had that were replaced.
// Where a manifest names a model that is not known at all, its bytes stay: a mesh
// may have been founded anew on the bucket, and get its state from a backup later.
// It returns how many objects it removed.
func (s *Store) SweepModels(ctx context.Context, age time.Duration, known Known) (int, error) {
	before := time.Now().Add(-age)
	needed, kept := known.Needed(), map[string]bool{}
	var gone []string
	err := s.each(ctx, "base/", func(o minio.ObjectInfo) error {
		folder := modelFolder.FindStringSubmatch(o.Key)
		if folder == nil {
			return nil // somebody's own
		}
		sum, ok := known.Current(folder[1])
		manifest := o.Key == "base/"+folder[1]+"/"+folder[2]+"/"+manifestName
		switch {
		case ok && manifest && strings.HasPrefix(sum, folder[2]):
		case ok:
			if o.LastModified.Before(before) && !needed[o.Key] {
				gone = append(gone, o.Key)
			}
		case manifest:
			m, err := s.readManifest(ctx, o.Key)
			for _, f := range m.Files {
				kept[f.Key] = true
			}
			return err
		}
		return nil
	})
	if err == nil {
		err = s.each(ctx, blobs, func(o minio.ObjectInfo) error {
			if o.LastModified.Before(before) && !kept[o.Key] && !needed[o.Key] {
				gone = append(gone, o.Key)
			}
			return nil
		})
	}
	count := 0
	for _, key := range gone {
		if err != nil || ctx.Err() != nil {
			break
		}
		if kept[key] || known.Needed()[key] { // it may have been imported meanwhile
			continue
		}
		if err = s.Remove(ctx, api.BucketModels, key); err == nil {
			count++
		}
	}
	if err != nil {
		return count, fmt.Errorf("artifacts: sweep models: %w", err)
	}
	return count, nil
}

// each visits the objects of bucket models under a prefix.
func (s *Store) each(ctx context.Context, prefix string, visit func(minio.ObjectInfo) error) error {
	ctx, cancel := context.WithCancel(ctx) // ends the listing early
	defer cancel()
	for o := range s.s3.ListObjects(ctx, api.BucketModels, minio.ListObjectsOptions{Prefix: prefix, Recursive: true}) {
		err := o.Err
		if err == nil {
			err = visit(o)
		}
		if err != nil {
			return err
		}
	}
	return ctx.Err()
}
