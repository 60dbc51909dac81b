package rest

import (
	"context"
	"net/http"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
)

// lister is an object store that can say what lies in it. artifacts.Store is one.
type lister interface {
	List(ctx context.Context, bucket, prefix string, most int) ([]api.Artifact, error)
}

type modelObjectsIn struct {
	Name string `path:"name" maxLength:"256"`
}

// listModelObjects gives links to the files that somebody has laid under models/base/NAME/
// with a client of the object store, for an import to read.
func (s *Server) listModelObjects(ctx context.Context, in *modelObjectsIn) (*one[api.ModelObjects], error) {
	if err := artifacts.CheckSegment(in.Name); err != nil {
		return nil, fault("name", "%v", err)
	}
	store, ok := s.Objects.(lister)
	if !ok {
		return nil, problem(http.StatusNotImplemented, api.ProblemNotFound, "this mesh's object store cannot be listed")
	}
	files, err := store.List(ctx, api.BucketModels, artifacts.ModelPrefix(in.Name), maxModelFiles)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		p := problem(http.StatusNotFound, api.ProblemNotFound, "no file lies directly under %s/%s", api.BucketModels, artifacts.ModelPrefix(in.Name))
		p.Hint = "copy the model's folder there with a client of the object store"
		return nil, p
	}
	for i, f := range files {
		if files[i].URL, err = s.Objects.PresignGet(ctx, f.Bucket, f.Key); err != nil {
			return nil, err
		}
	}
	return &one[api.ModelObjects]{api.ModelObjects{Files: files}}, nil
}
