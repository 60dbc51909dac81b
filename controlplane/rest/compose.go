package rest

import (
	"context"
	"encoding/json"
	"fmt"
	"path"
	"slices"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

// compose puts together everything that a node needs to run its attempts, from
// one view of the state.
func (s *Server) compose(ctx context.Context, view state.View, attempts []api.Attempt) ([]api.Assignment, error) {
	out := make([]api.Assignment, 0, len(attempts))
	links := map[[2]string]string{} // by bucket and key: attempts share datasets and models
	for _, a := range attempts {
		assignment, err := s.composeOne(ctx, view, a, links)
		if err != nil {
			return nil, fmt.Errorf("rest: assignment of job %s stage %s fence %d: %w", a.JobID, a.Stage, a.Fence, err)
		}
		out = append(out, assignment)
	}
	return out, nil
}

// composeOne is what a node is told of an attempt, with links to read by.
func (s *Server) composeOne(ctx context.Context, view state.View, a api.Attempt, links map[[2]string]string) (api.Assignment, error) {
	out, stage, err := describe(view, a)
	if err != nil {
		return out, err
	}
	for i := range out.Inputs {
		in := &out.Inputs[i].Artifact
		object := [2]string{in.Bucket, in.Key}
		if in.URL = links[object]; in.URL != "" {
			continue
		}
		if *in, err = s.linked(ctx, *in); err != nil {
			return out, err
		}
		links[object] = in.URL
	}
	out.Checkpoint, err = s.newestCheckpoint(ctx, stage)
	return out, err
}

// describe is an attempt's input: its config, what its ancestors said and made.
func describe(view state.View, a api.Attempt) (api.Assignment, api.Stage, error) {
	out := api.Assignment{Fence: a.Fence, JobID: a.JobID, Attempt: a.Number, Devices: a.Devices, TraceParent: a.TraceParent, PreviousOutput: map[string]json.RawMessage{}}
	job, err := view.Job(a.JobID)
	if err != nil {
		return out, api.Stage{}, err
	}
	stage, err := view.Stage(a.JobID, a.Stage)
	if err != nil {
		return out, stage, err
	}
	out.Stage = stage.StageSpec
	if out.Config, err = stageConfig(job, stage); err != nil {
		return out, stage, err
	}
	for _, before := range view.Ancestors(stage) {
		if len(before.Output) > 0 {
			out.PreviousOutput[before.Name] = before.Output
		}
		if !before.State.Done() {
			continue // what it left behind tells people why it failed
		}
		for _, artifact := range before.Artifacts {
			out.Inputs = append(out.Inputs, api.StageArtifact{Stage: before.Name, Artifact: artifact})
		}
	}
	addAdapter(view, stage, &out)
	return out, stage, addSources(view, job, &out)
}

// withInput adds to dead letters what their attempts were given, so that a
// person sees all that it takes to try again.
func withInput(view state.View, letters []api.DeadLetter) []api.DeadLetter {
	out := make([]api.DeadLetter, 0, len(letters))
	for _, l := range letters {
		if a, err := view.Attempt(l.Fence); err == nil {
			if input, _, err := describe(view, a); err == nil {
				l.Input = &input
			}
		}
		out = append(out, l)
	}
	return out
}

// addSources adds the dataset's file and the base model's files.
func addSources(view state.View, job api.Job, out *api.Assignment) error {
	if job.Dataset != "" {
		d, err := view.Dataset(job.Dataset)
		if err != nil {
			return err
		}
		out.Inputs = append(out.Inputs, api.StageArtifact{Stage: contract.SourceInputs, Artifact: api.Artifact{
			Name: path.Base(d.Key), Bucket: api.BucketDatasets, Key: d.Key, Size: d.Size, SHA256: d.SHA256,
		}, OriginalName: d.Name})
	}
	if job.Model != "" {
		base, err := view.Base(job.ID)
		if err != nil {
			return err
		}
		if m, err := view.Model(job.Model); err == nil && slices.Equal(m.Files, base) {
			out.BaseSource = m.Source
		}
		for _, f := range base {
			out.Inputs = append(out.Inputs, api.StageArtifact{Stage: contract.ModelInputs, Artifact: f})
		}
	}
	return nil
}

// stageConfig is the job's config with the stage's laid over it, and the model
// that was resolved at submit.
func stageConfig(job api.Job, stage api.Stage) (json.RawMessage, error) {
	merged, err := overlay(job.Config, stage.Config)
	if err != nil || job.Model == "" {
		return merged, err
	}
	name, err := json.Marshal(map[string]string{"model": job.Model})
	if err != nil {
		return nil, err
	}
	return overlay(merged, name)
}

func (s *Server) newestCheckpoint(ctx context.Context, stage api.Stage) (*api.Checkpoint, error) {
	if len(stage.Checkpoints) == 0 {
		return nil, nil
	}
	newest := stage.Checkpoints[0]
	for _, c := range stage.Checkpoints[1:] {
		if !c.At.Before(newest.At) {
			newest = c
		}
	}
	files := make([]api.Artifact, len(newest.Files))
	for i, f := range newest.Files {
		var err error
		if files[i], err = s.linked(ctx, f); err != nil {
			return nil, err
		}
	}
	newest.Files = files // a copy: rows of the state are not changed
	return &newest, nil
}
