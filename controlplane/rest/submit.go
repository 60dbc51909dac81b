package rest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"

	"github.com/oklog/ulid/v2"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/auth"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/tracing"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

// jobID is what a client may choose, a ULID: it becomes part of keys and file
// names, and lists by it are lists by age.
var jobID = regexp.MustCompile(`^[0-7][0-9A-HJKMNP-TV-Z]{25}$`)

// keyedID is the id of a job that was submitted with an Idempotency-Key: the same
// for the same caller and key, so that a repeat is the same job by the same rule
// as one with an id of the client's own, on every server and for ever.
func keyedID(caller, key string) string {
	sum := sha256.Sum256([]byte("tunemesh job\x00" + caller + "\x00" + key))
	var id ulid.ULID
	copy(id[:], sum[:])
	return id.String()
}

// modelKinds are the built-in stages that read the base model.
var modelKinds = []string{"preprocessing", "training", "evaluation", "export", api.KindInference}

type submitIn struct {
	Key  string `header:"Idempotency-Key" maxLength:"256" doc:"where the spec has no id: the same caller's same key is the same job; with another body it is refused"`
	Body api.JobSpec
}

type submitOut struct {
	Status int
	Body   api.JobDetail
}

func (s *Server) submitJob(ctx context.Context, in *submitIn) (*submitOut, error) {
	spec := in.Body
	keyed := spec.ID == "" && hasKey(in.Key)
	switch {
	case keyed:
		spec.ID = keyedID(auth.Caller(ctx).ID, in.Key)
	case spec.ID == "":
		spec.ID = ulid.Make().String()
	}
	command, faults := s.checkJob(spec)
	if len(faults) > 0 {
		return nil, invalid(faults...)
	}
	if _, faults = s.plan(ctx, &command); len(faults) > 0 {
		return nil, invalid(faults...)
	}
	command.CreatedBy = auth.Caller(ctx).Name
	command.At = s.Clock().UTC()
	command.TraceParent = tracing.Parent(ctx)
	result, err := s.Raft.Apply(ctx, command)
	if err != nil && keyed {
		return nil, reused(err)
	}
	if err != nil {
		return nil, err
	}
	detail, err := s.detail(spec.ID)
	if err != nil {
		return nil, err
	}
	out := &submitOut{Status: http.StatusOK, Body: detail}
	if result.Created {
		out.Status = http.StatusCreated
	}
	return out, nil
}

// checkJob returns the command for a spec, or every fault of it.
func (s *Server) checkJob(spec api.JobSpec) (state.CreateJob, []api.FieldError) {
	var faults []api.FieldError
	fail := func(field, format string, args ...any) {
		faults = append(faults, api.FieldError{Field: field, Message: fmt.Sprintf(format, args...)})
	}
	if !jobID.MatchString(spec.ID) {
		fail("id", "is %q: want a ULID, 26 digits and capital letters", spec.ID)
	}
	pipeline := api.DefaultPipeline()
	if spec.Pipeline != nil {
		pipeline = *spec.Pipeline
	}
	faults = append(faults, placeEngines(spec.Config, &pipeline)...)
	pipeline = pipeline.Normalize()
	faults = append(faults, pipeline.Validate()...)

	if spec.Dataset == "" {
		fail("dataset", "is required: upload a file first")
	} else if _, err := s.Store.Dataset(spec.Dataset); err != nil {
		fail("dataset", "there is no dataset %q: upload it first", spec.Dataset)
	}

	// A custom stage may have keys of its own in the job's config.
	strict := !slices.ContainsFunc(pipeline.Nodes, func(n api.StageSpec) bool { return n.Kind == api.KindCustom })
	config, configFaults := checkConfig("config", spec.Config, strict)
	faults = append(faults, configFaults...)
	for i, n := range pipeline.Nodes {
		if len(n.Config) == 0 || n.Kind == api.KindCustom || len(configFaults) > 0 {
			continue
		}
		merged, err := overlay(spec.Config, n.Config)
		if err != nil {
			continue // the pipeline's own check says so
		}
		_, more := checkConfig(fmt.Sprintf("pipeline.nodes[%d].config", i), merged, strict)
		faults = append(faults, more...)
	}

	model := config.Model
	if model == "" {
		model = s.DefaultModel
	}
	_, err := s.Store.Model(model)
	needed := slices.ContainsFunc(pipeline.Nodes, func(n api.StageSpec) bool { return slices.Contains(modelKinds, n.Kind) })
	switch {
	case err == nil:
	case config.Model != "":
		fail("config.model", "there is no model %q; there are: %s", model, s.modelNames())
	case needed:
		fail("config.model", "is required: this mesh has no default model; there are: %s", s.modelNames())
	default:
		model = ""
	}
	command := state.CreateJob{Spec: spec, Pipeline: pipeline, Model: model}
	if !slices.ContainsFunc(faults, func(f api.FieldError) bool { return f.Field != "dataset" }) {
		faults = append(faults, s.checkAdapters(command)...)
	}
	return command, faults
}

func (s *Server) modelNames() string {
	var names []string
	for _, m := range s.Store.Models() {
		names = append(names, m.Name)
	}
	if len(names) == 0 {
		return "none"
	}
	return fmt.Sprintf("%q", names)
}

// checkConfig returns the config of the built-in stages with its faults, each
// with the path of its field under prefix.
func checkConfig(prefix string, raw json.RawMessage, strict bool) (contract.Config, []api.FieldError) {
	trimmed := bytes.TrimSpace(raw)
	if len(trimmed) > 0 && trimmed[0] != '{' {
		return contract.Config{}, []api.FieldError{{Field: prefix, Message: "is no JSON object"}}
	}
	c, err := contract.ParseConfig(raw, strict)
	if err != nil {
		var field contract.FieldError
		if errors.As(err, &field) {
			return c, []api.FieldError{{Field: prefix + "." + field.Field, Message: field.Message}}
		}
		return c, []api.FieldError{{Field: prefix, Message: err.Error()}}
	}
	var faults []api.FieldError
	for _, f := range c.WithDefaults().Validate() {
		faults = append(faults, api.FieldError{Field: prefix + "." + f.Field, Message: f.Message})
	}
	return c, faults
}

// overlay lays one JSON object over another, key by key at the top level.
func overlay(base, top json.RawMessage) (json.RawMessage, error) {
	out := map[string]json.RawMessage{}
	for _, layer := range []json.RawMessage{base, top} {
		if len(bytes.TrimSpace(layer)) == 0 {
			continue
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(layer, &keys); err != nil {
			return nil, fmt.Errorf("config: %w", err)
		}
		for k, v := range keys {
			out[k] = v
		}
	}
	return json.Marshal(out)
}
