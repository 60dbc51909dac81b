package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
	"github.com/tunemesh/tunemesh/controlplane/auth"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// modelFiles are those without which no job can use a base model.
var modelFiles = []string{"config.json", "model.safetensors", "tokenizer.json"}

const (
	maxModelFiles   = 1000
	maxModelLicense = 200
)

type modelUploadsIn struct {
	Name string `path:"name" maxLength:"256"`
	Body api.ModelUploads
}

func (s *Server) requestModelUploads(ctx context.Context, in *modelUploadsIn) (*one[api.UploadReply], error) {
	model, faults := checkModel(in.Name, in.Body.Files)
	if len(faults) > 0 {
		return nil, invalid(faults...)
	}
	link := s.putLink(in.Body.Sealed)
	for i, f := range model.Files {
		if f.Size > api.MaxPut {
			continue // goes in parts
		}
		url, err := link(ctx, f)
		if err != nil {
			return nil, err
		}
		model.Files[i].URL = url
	}
	return &one[api.UploadReply]{api.UploadReply{Files: model.Files}}, nil
}

type createModelIn struct {
	Name string `path:"name" maxLength:"256"`
	Body api.ModelManifest
}

type createModelOut struct {
	Status int
	Body   api.Model
}

// createModel records a base model whose files have been uploaded.
func (s *Server) createModel(ctx context.Context, in *createModelIn) (*createModelOut, error) {
	m := in.Body
	model, faults := checkModel(in.Name, m.Files)
	for _, f := range []struct {
		field, value string
		max          int
	}{{"architecture", m.Architecture, maxFileName}, {"license", m.License, maxModelLicense}} {
		if len(f.value) > f.max {
			faults = append(faults, api.FieldError{Field: f.field, Message: fmt.Sprintf("is %d bytes long, at most %d are allowed", len(f.value), f.max)})
		}
	}
	if m.Architecture == "" {
		faults = append(faults, api.FieldError{Field: "architecture", Message: "is required"})
	}
	if m.Parameters < 0 {
		faults = append(faults, api.FieldError{Field: "parameters", Message: "is negative"})
	}
	if len(faults) > 0 {
		return nil, invalid(faults...)
	}
	have, err := s.Store.Model(model.Name)
	switch {
	case err == nil && have.SHA256 == model.SHA256:
		return &createModelOut{http.StatusOK, have}, nil
	case err == nil && !m.Replace:
		p := problem(http.StatusConflict, api.ProblemConflict, "model %q is already there with other files", model.Name)
		p.Hint = "choose another name, or say that it is to be replaced"
		return nil, p
	case err == nil && !auth.Caller(ctx).Role.Allows(api.RoleAdmin):
		return nil, problem(http.StatusForbidden, api.ProblemForbidden, "to replace model %q needs the role admin", model.Name)
	case err != nil && !errors.Is(err, state.ErrNotFound):
		return nil, err
	}
	if err := s.whole(ctx, model.Files); err != nil {
		return nil, err
	}
	model.Architecture, model.Parameters, model.License, model.CreatedAt = m.Architecture, m.Parameters, m.License, s.Clock().UTC()
	result, err := s.Raft.Apply(ctx, state.CreateModel{Model: model, Replace: m.Replace})
	if err != nil {
		return nil, err
	}
	out := &createModelOut{Status: http.StatusOK}
	if result.Created {
		out.Status = http.StatusCreated
	}
	out.Body, err = s.Store.Model(model.Name)
	return out, err
}

// checkModel says where a base model's files lie, and every fault of their list. The
// keys hold the model's hash, so that a replaced model never changes under a job.
func checkModel(name string, files []api.ModelFile) (api.Model, []api.FieldError) {
	var faults []api.FieldError
	fail := func(field, format string, args ...any) {
		faults = append(faults, api.FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	if err := artifacts.CheckSegment(name); err != nil {
		fail("name", "%v", err)
	}
	if len(files) > maxModelFiles {
		fail("files", "has %d items, at most %d are allowed", len(files), maxModelFiles)
		return api.Model{}, faults
	}
	model := api.Model{Name: name, SHA256: api.ModelSHA256(files)}
	seen := map[string]bool{}
	var names []string
	for i, f := range files {
		field := fmt.Sprintf("files[%d]", i)
		if err := artifacts.CheckName(f.Name); err != nil {
			fail(field+".name", "%v", err)
		}
		if seen[f.Name] {
			fail(field+".name", "%q is there twice", f.Name)
		}
		seen[f.Name] = true
		names = append(names, f.Name)
		if f.Size < 0 || f.Size > api.MaxObject {
			fail(field+".size", "is %d bytes, want 0 to %d", f.Size, int64(api.MaxObject))
		}
		if !sha256Hex.MatchString(f.SHA256) {
			fail(field+".sha256", "is no SHA-256 in hex")
		}
		model.Files = append(model.Files, api.Artifact{
			Name: f.Name, Size: f.Size, SHA256: f.SHA256, Bucket: api.BucketModels,
			Key: artifacts.ModelKey(name, model.SHA256, f.Name),
		})
	}
	for _, need := range modelFiles {
		if !slices.Contains(names, need) {
			fail("files", "%s is missing: no job could use the model", need)
		}
	}
	if dir, name := artifacts.Nested(names); dir != "" {
		fail("files", "%q and %q cannot lie side by side: one is the folder of the other", dir, name)
	}
	return model, faults
}

// whole makes sure that the store holds the files byte by byte as announced.
func (s *Server) whole(ctx context.Context, list []api.Artifact) error {
	if err := s.present(ctx, "files", list); err != nil {
		return err
	}
	err := s.Objects.VerifyContent(ctx, list)
	var other *artifacts.ContentError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &other):
		i := slices.IndexFunc(list, func(a api.Artifact) bool { return a.Key == other.Artifact.Key })
		return fault(fmt.Sprintf("files[%d].sha256", i), "%v: upload it again", err)
	}
	s.Log.Error("a model's files could not be read", "err", err)
	return problem(http.StatusServiceUnavailable, api.ProblemOverloaded, "the object store does not answer: say it again")
}
