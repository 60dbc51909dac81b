package rest

import (
	"context"

	"github.com/tunemesh/tunemesh/api"
)

// listModelFiles gives links to a base model's files.
func (s *Server) listModelFiles(ctx context.Context, in *readName) (*one[api.ModelObjects], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	m, err := s.Store.Model(in.Name)
	if err != nil {
		return nil, err
	}
	var out api.ModelObjects
	for _, f := range m.Files {
		if f.URL, err = s.Objects.PresignGet(ctx, f.Bucket, f.Key); err != nil {
			return nil, err
		}
		out.Files = append(out.Files, f)
	}
	return &one[api.ModelObjects]{out}, nil
}

// getDatasetFile gives a link to a dataset's file.
func (s *Server) getDatasetFile(ctx context.Context, in *readID) (*one[api.Artifact], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	d, err := s.Store.Dataset(in.ID)
	if err != nil {
		return nil, err
	}
	out := api.Artifact{Name: d.Name, Size: d.Size, SHA256: d.SHA256, Bucket: api.BucketDatasets, Key: d.Key}
	out.URL, err = s.Objects.PresignGet(ctx, out.Bucket, out.Key)
	return &one[api.Artifact]{out}, err
}
