package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
)

// modelStore is an object store that base models can be brought into.
// artifacts.Store is one.
type modelStore interface {
	sealer
	Present(ctx context.Context, list []api.Artifact) ([]bool, error)
	VerifyContent(ctx context.Context, list []api.Artifact) error
	JoinMultipart(ctx context.Context, bucket, key, id string, size int64, sum string) (api.Multipart, error)
	Adopt(ctx context.Context, from api.Artifact, key string) error
	Remove(ctx context.Context, bucket, key string) error
	PutManifest(ctx context.Context, m api.Model) error
}

func (s *Server) modelStore() (modelStore, error) {
	store, ok := s.Objects.(modelStore)
	if !ok {
		return nil, problem(http.StatusNotImplemented, api.ProblemNotFound, "this mesh's object store takes no base models")
	}
	return store, nil
}

// baseFiles are the files of the base models that the mesh has, by their SHA-256.
type baseFiles map[string]api.Artifact

func (s *Server) baseFiles() baseFiles {
	out := baseFiles{}
	for _, f := range s.Store.BaseFiles() {
		// Of two places, as older programs made them, the one by the hash.
		if have, ok := out[f.SHA256]; !ok || have.Key != artifacts.BlobKey(f.SHA256) {
			out[f.SHA256] = f
		}
	}
	return out
}

// at says whether one of them lies there.
func (b baseFiles) at(key string) bool {
	for _, f := range b {
		if f.Key == key {
			return true
		}
	}
	return false
}

// inOrderOf are the files that have the names of want, in its order.
func inOrderOf(want, files []api.Artifact) []api.Artifact {
	out := slices.Clone(want)
	for i, w := range want {
		if at := slices.IndexFunc(files, func(f api.Artifact) bool { return f.Name == w.Name }); at >= 0 {
			out[i] = files[at]
		}
	}
	return out
}

// whole makes sure that the store holds a model's files byte by byte as announced.
// Those that another model has were read when that came.
func (s *Server) whole(ctx context.Context, store modelStore, model api.Model) error {
	known := s.baseFiles()
	var fresh []api.Artifact
	for _, f := range model.Files {
		if _, ok := known[f.SHA256]; !ok {
			fresh = append(fresh, f)
		}
	}
	if err := adopt(ctx, store, model, fresh); err != nil {
		return s.storeAway("a model's files cannot be looked at", err)
	}
	if err := s.present(ctx, "files", model.Files); err != nil {
		return err // whoever is sending them goes on
	}
	for _, f := range fresh { // so that none changes after it was read
		if err := store.AbortMultipart(ctx, f.Bucket, f.Key, ""); err != nil {
			return s.storeAway("the uploads of a model's files cannot be ended", err)
		}
	}
	err := store.VerifyContent(ctx, fresh)
	var other *artifacts.ContentError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &other):
		// Nobody can send the right bytes as long as these seem to be them. If a
		// model has the file by now, somebody did.
		if _, ok := s.baseFiles()[other.Artifact.SHA256]; ok {
			return notStored("%v", err)
		}
		if err := store.Remove(ctx, other.Artifact.Bucket, other.Artifact.Key); err != nil {
			return s.storeAway("a file with other bytes than announced cannot be removed", err)
		}
		i := slices.IndexFunc(model.Files, func(a api.Artifact) bool { return a.Key == other.Artifact.Key })
		p := notStored("%v", err)
		p.Errors = []api.FieldError{{Field: fmt.Sprintf("files[%d].sha256", i), Message: other.Error()}}
		return p
	}
	s.Log.Error("a model's files could not be read", "err", err)
	return problem(http.StatusServiceUnavailable, api.ProblemOverloaded, "the object store does not answer: say it again")
}

// adopt takes in what older clients sent to the model's folder.
func adopt(ctx context.Context, store modelStore, model api.Model, files []api.Artifact) error {
	there, err := store.Present(ctx, files)
	if err != nil {
		return err
	}
	for i, f := range files {
		if there[i] {
			continue
		}
		own := f
		own.Key = artifacts.ModelKey(model.Name, model.SHA256, f.Name)
		sent, err := store.Present(ctx, []api.Artifact{own})
		if err != nil {
			return err
		}
		if !sent[0] {
			continue
		}
		if err := store.Adopt(ctx, own, f.Key); err != nil {
			return err
		}
		if err := store.Remove(ctx, own.Bucket, own.Key); err != nil {
			return err
		}
	}
	return nil
}
