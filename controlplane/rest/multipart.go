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

// sealer is an object store that can bind links to hashes, and take files in
// parts. artifacts.Store is one.
type sealer interface {
	PresignSealedPut(ctx context.Context, bucket, key, sum string) (string, error)
	BeginMultipart(ctx context.Context, bucket, key, id string, size int64, sum string) (api.Multipart, error)
	PresignPart(ctx context.Context, bucket, key, id string, part api.UploadPart) (string, error)
	CompleteMultipart(ctx context.Context, bucket, key, id string, size int64, sum string) error
	AbortMultipart(ctx context.Context, bucket, key, id string) error
}

func (s *Server) multipartRoutes() {
	const attempts, models = "/v1/attempts/{fence}/", "/v1/models/{name}/"
	add(s, api.RoleNode, op("POST", attempts+string(api.MultipartBegin), tagAgents, "begin-multipart", "Begin to upload an attempt's file in parts, or go on with it", lenient), step(s, s.attemptFile, s.beginParts))
	add(s, api.RoleNode, op("POST", attempts+string(api.MultipartLinks), tagAgents, "link-parts", "Get links to upload parts of a file to", lenient), step(s, s.attemptFile, s.linkParts))
	add(s, api.RoleNode, op("POST", attempts+string(api.MultipartComplete), tagAgents, "complete-multipart", "Make uploaded parts one file", lenient), step(s, s.attemptFile, s.completeParts))
	add(s, api.RoleNode, op("POST", attempts+string(api.MultipartAbort), tagAgents, "abort-multipart", "Give up the upload of a file in parts", lenient), step(s, s.attemptFile, s.abortParts))
	add(s, api.RoleUser, op("POST", models+string(api.MultipartBegin), tagModels, "begin-model-multipart", "Begin to upload a base model's file in parts, or go on with it", lenient), step(s, s.modelFile, s.joinParts))
	add(s, api.RoleUser, op("POST", models+string(api.MultipartLinks), tagModels, "link-model-parts", "Get links to upload parts of a model's file to", lenient), step(s, s.modelFile, s.linkParts))
	add(s, api.RoleUser, op("POST", models+string(api.MultipartComplete), tagModels, "complete-model-multipart", "Make uploaded parts one file of a model", lenient), step(s, s.modelFile, s.completeParts))
	add(s, api.RoleUser, op("POST", models+string(api.MultipartAbort), tagModels, "abort-model-multipart", "Give up the upload of a model's file in parts", lenient), step(s, s.modelFile, s.abortParts))
}

// inParts is a file that goes to the store in parts: where it belongs, and what
// a request says of its upload.
type inParts struct {
	file     api.Artifact
	uploadID string
	parts    []api.UploadPart
}

// step makes a route of one step of an upload: locate checks whose file it is.
func step[In any](s *Server, locate func(context.Context, *In) (inParts, error), do func(context.Context, sealer, inParts) (api.Multipart, error)) func(context.Context, *In) (*one[api.Multipart], error) {
	return func(ctx context.Context, in *In) (*one[api.Multipart], error) {
		store, ok := s.Objects.(sealer)
		if !ok {
			return nil, problem(http.StatusNotImplemented, api.ProblemNotFound, "this mesh's object store takes no files in parts")
		}
		f, err := locate(ctx, in)
		if err != nil {
			return nil, err
		}
		if len(f.uploadID) > maxUploadID {
			return nil, fault("upload_id", "is %d bytes long, at most %d are allowed", len(f.uploadID), maxUploadID)
		}
		m, err := do(ctx, store, f)
		if err != nil {
			return nil, err
		}
		m.File = f.file
		return &one[api.Multipart]{m}, nil
	}
}

// maxUploadID is more than any store's upload ids have, in bytes.
const maxUploadID = 1024

type multipartIn struct {
	Fence uint64 `path:"fence" doc:"of the attempt"`
	Body  api.MultipartRequest
}

func (s *Server) attemptFile(ctx context.Context, in *multipartIn) (inParts, error) {
	f := inParts{uploadID: in.Body.UploadID, parts: in.Body.Parts}
	a, err := s.live(ctx, in.Fence)
	if err != nil {
		return f, err
	}
	if in.Body.Checkpoint != "" {
		if err := artifacts.CheckSegment(in.Body.Checkpoint); err != nil {
			return f, fault("checkpoint", "%v", err)
		}
	}
	f.file, err = s.destination(in.Body.Checkpoint, a, in.Body.File, "file", api.MaxObject)
	return f, err
}

type modelMultipartIn struct {
	Name string `path:"name" maxLength:"256"`
	Body api.ModelMultipart
}

func (s *Server) modelFile(_ context.Context, in *modelMultipartIn) (inParts, error) {
	f := inParts{uploadID: in.Body.UploadID, parts: in.Body.Parts}
	model, faults := checkModel(in.Name, in.Body.Files, s.baseFiles())
	if len(faults) > 0 {
		return f, invalid(faults...)
	}
	i := slices.IndexFunc(model.Files, func(a api.Artifact) bool { return a.Name == in.Body.File })
	if i < 0 {
		return f, fault("file", "%q is none of the model's files", in.Body.File)
	}
	f.file = model.Files[i]
	return f, nil
}

func (s *Server) beginParts(ctx context.Context, store sealer, f inParts) (api.Multipart, error) {
	m, err := store.BeginMultipart(ctx, f.file.Bucket, f.file.Key, f.uploadID, f.file.Size, f.file.SHA256)
	return m, s.cannotBegin(err)
}

// joinParts is beginParts for a file that several may send at once.
func (s *Server) joinParts(ctx context.Context, _ sealer, f inParts) (api.Multipart, error) {
	store, err := s.modelStore()
	if err != nil {
		return api.Multipart{}, err
	}
	// What a model has is never written to again, whatever is said of it.
	there, err := store.Present(ctx, []api.Artifact{f.file})
	if err != nil || there[0] {
		return api.Multipart{UploadID: f.uploadID, Done: true}, s.cannotBegin(err)
	}
	m, err := store.JoinMultipart(ctx, f.file.Bucket, f.file.Key, f.uploadID, f.file.Size, f.file.SHA256)
	return m, s.cannotBegin(err)
}

func (s *Server) cannotBegin(err error) error {
	if err != nil {
		return s.storeAway("an upload cannot begin", err)
	}
	return nil
}

func (s *Server) linkParts(ctx context.Context, store sealer, f inParts) (api.Multipart, error) {
	m := api.Multipart{UploadID: f.uploadID}
	if f.uploadID == "" {
		return m, fault("upload_id", "is required")
	}
	if n := len(f.parts); n == 0 || n > api.MaxPartLinks {
		return m, fault("parts", "has %d items, want 1 to %d", n, api.MaxPartLinks)
	}
	for i, p := range f.parts {
		field := fmt.Sprintf("parts[%d]", i)
		switch {
		case p.Number < 1 || p.Number > api.MaxParts:
			return m, fault(field+".number", "is %d, want 1 to %d", p.Number, api.MaxParts)
		case !sha256Hex.MatchString(p.SHA256):
			return m, fault(field+".sha256", "is no SHA-256 in hex")
		}
		var err error
		if p.URL, err = store.PresignPart(ctx, f.file.Bucket, f.file.Key, f.uploadID, p); err != nil {
			return m, err
		}
		m.Parts = append(m.Parts, p)
	}
	return m, nil
}

func (s *Server) completeParts(ctx context.Context, store sealer, f inParts) (api.Multipart, error) {
	m := api.Multipart{UploadID: f.uploadID, Done: true}
	if f.uploadID == "" {
		return m, fault("upload_id", "is required")
	}
	err := store.CompleteMultipart(ctx, f.file.Bucket, f.file.Key, f.uploadID, f.file.Size, f.file.SHA256)
	var incomplete *artifacts.IncompleteError
	switch {
	case errors.As(err, &incomplete), errors.Is(err, artifacts.ErrNoUpload):
		return m, notStored("%v", err)
	case err != nil:
		return m, s.storeAway("an upload cannot be completed", err)
	}
	return m, nil
}

func (s *Server) abortParts(ctx context.Context, store sealer, f inParts) (api.Multipart, error) {
	if f.uploadID == "" {
		return api.Multipart{}, fault("upload_id", "is required")
	}
	if err := store.AbortMultipart(ctx, f.file.Bucket, f.file.Key, f.uploadID); err != nil {
		return api.Multipart{}, s.storeAway("an upload cannot be given up", err)
	}
	return api.Multipart{}, nil
}

// notStored says that bytes must be sent again.
func notStored(format string, args ...any) *problemError {
	// The status is what older agents take for a final no.
	p := problem(http.StatusUnprocessableEntity, api.ProblemNotStored, format, args...)
	p.Hint = "upload it again"
	return p
}

// storeAway says that the object store did not do what was asked of it.
func (s *Server) storeAway(what string, err error) error {
	s.Log.Warn("the object store did not answer as it should: "+what, "err", err)
	return problem(http.StatusServiceUnavailable, api.ProblemOverloaded, "the object store does not answer: %s: try again", what)
}
