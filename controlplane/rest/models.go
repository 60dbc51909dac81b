package rest

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/artifacts"
	"github.com/tunemesh/tunemesh/controlplane/auth"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// modelFiles are those without which no job can use a base model.
var modelFiles = []string{"config.json", "model.safetensors", "tokenizer.json"}

// modelSource matches where a model can have come from that others can find as well.
var modelSource = regexp.MustCompile(`^(hf|ollama):[!-~]{1,300}$`)

const (
	maxModelFiles   = 1000
	maxModelLicense = 200
)

type modelUploadsIn struct {
	Name string `path:"name" maxLength:"256"`
	Body api.ModelUploads
}

// requestModelUploads says where a model's files go, and which the mesh has.
func (s *Server) requestModelUploads(ctx context.Context, in *modelUploadsIn) (*one[api.UploadReply], error) {
	store, err := s.modelStore()
	if err != nil {
		return nil, err
	}
	known := s.baseFiles()
	model, faults := checkModel(in.Name, in.Body.Files, known)
	if len(faults) > 0 {
		return nil, invalid(faults...)
	}
	there, err := store.Present(ctx, model.Files)
	if err != nil {
		return nil, s.storeAway("an upload cannot begin", err)
	}
	reply := api.UploadReply{Files: model.Files}
	for i, f := range model.Files {
		if there[i] {
			reply.Have = append(reply.Have, f.Name)
		}
		if f.Size > api.MaxPut {
			continue // goes in parts
		}
		// By a link that is not bound to the bytes, what several models may share
		// could be overwritten: an older client gets a place of its own.
		own := artifacts.ModelKey(model.Name, model.SHA256, f.Name)
		unsealed := !in.Body.Sealed && !known.at(own)
		if unsealed {
			reply.Files[i].Key = own
		}
		if reply.Files[i].URL, err = s.putLink(!unsealed)(ctx, reply.Files[i]); err != nil {
			return nil, err
		}
	}
	return &one[api.UploadReply]{reply}, nil
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
	store, err := s.modelStore()
	if err != nil {
		return nil, err
	}
	m := in.Body
	model, faults := checkModel(in.Name, m.Files, s.baseFiles())
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
	if m.Source != "" && !modelSource.MatchString(m.Source) {
		faults = append(faults, api.FieldError{Field: "source", Message: fmt.Sprintf("is %.100q: want hf:ORG/NAME@COMMIT or ollama:NAME", m.Source)})
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
		return &createModelOut{http.StatusOK, have}, s.present(ctx, "files", inOrderOf(model.Files, have.Files))
	case err == nil && !m.Replace:
		p := problem(http.StatusConflict, api.ProblemConflict, "model %q is already there with other files", model.Name)
		p.Hint = "choose another name, or say that it is to be replaced"
		return nil, p
	case err == nil && !auth.Caller(ctx).Role.Allows(api.RoleAdmin):
		return nil, problem(http.StatusForbidden, api.ProblemForbidden, "to replace model %q needs the role admin", model.Name)
	case err != nil && !errors.Is(err, state.ErrNotFound):
		return nil, err
	}
	if err := s.whole(ctx, store, model); err != nil {
		return nil, err
	}
	model.Architecture, model.Parameters, model.License, model.CreatedAt = m.Architecture, m.Parameters, m.License, s.Clock().UTC()
	kept := s.Store.MinVersion() >= state.SinceKeptModels
	if kept {
		model.Source = m.Source
	}
	result, err := s.Raft.Apply(ctx, state.CreateModel{Model: model, Replace: m.Replace, Keep: kept})
	if err != nil {
		return nil, err
	}
	// What another model had a moment ago may have been swept with it.
	if err := s.present(ctx, "files", model.Files); err != nil {
		return nil, err
	}
	if err := store.PutManifest(ctx, model); err != nil { // the sweep tries again
		s.Log.Warn("a model's manifest could not be written", "model", model.Name, "err", err)
	}
	out := &createModelOut{Status: http.StatusOK}
	if result.Created {
		out.Status = http.StatusCreated
	}
	out.Body, err = s.Store.Model(model.Name)
	return out, err
}

// checkModel says where a base model's files lie, and every fault of their list.
// What is known already lies where it is known to.
func checkModel(name string, files []api.ModelFile, known baseFiles) (api.Model, []api.FieldError) {
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
		place := api.Artifact{Name: f.Name, Size: f.Size, SHA256: f.SHA256, Bucket: api.BucketModels, Key: artifacts.BlobKey(f.SHA256)}
		if have, ok := known[f.SHA256]; ok {
			place.Bucket, place.Key = have.Bucket, have.Key
			if have.Size != f.Size {
				fail(field+".size", "is %d bytes, but the file with that SHA-256 has %d", f.Size, have.Size)
			}
		}
		model.Files = append(model.Files, place)
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
