package rest

import (
	"context"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/auth"
	"github.com/tunemesh/tunemesh/controlplane/state"
)

// detail puts a job and its stages together, with what only the leader knows.
func (s *Server) detail(id string) (api.JobDetail, error) {
	view := s.Store.At()
	job, err := view.Job(id)
	if err != nil {
		return api.JobDetail{}, err
	}
	stages, err := view.Stages(id)
	if err != nil {
		return api.JobDetail{}, err
	}
	for i := range stages {
		s.explain(&stages[i])
	}
	return api.JobDetail{Job: job, Stages: stages}, nil
}

// explain says why a stage waits.
func (s *Server) explain(stage *api.Stage) {
	if stage.State == api.StageReady {
		stage.WaitReason = s.Dispatch.WaitReason(stage.JobID, stage.Name)
	}
}

func (s *Server) getJob(ctx context.Context, in *readID) (*one[api.JobDetail], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	d, err := s.detail(in.ID)
	return &one[api.JobDetail]{d}, err
}

type listJobsIn struct {
	readParams
	State     string `query:"state" enum:"pending,running,succeeded,failed,cancelled" doc:"only jobs in this state"`
	Dataset   string `query:"dataset" doc:"only jobs on this dataset"`
	CreatedBy string `query:"created_by" doc:"only jobs of this caller"`
	Cursor    string `query:"cursor" doc:"next of the page before" maxLength:"64"`
	Limit     int    `query:"limit" doc:"items of a page" default:"100" minimum:"1" maximum:"1000"`
}

func (s *Server) listJobs(ctx context.Context, in *listJobsIn) (*listOut[api.Job], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	filter := state.JobFilter{State: api.JobState(in.State), Dataset: in.Dataset, CreatedBy: in.CreatedBy, Before: in.Cursor}
	jobs, err := s.Store.Jobs(filter, in.Limit+1)
	if err != nil {
		return nil, err
	}
	out := listed(jobs)
	if len(jobs) > in.Limit {
		out.Body.Items = jobs[:in.Limit]
		out.Body.Next = jobs[in.Limit-1].ID
	}
	return out, nil
}

type cancelIn struct {
	ID   string `path:"id" maxLength:"256"`
	Body *struct {
		Reason string `json:"reason,omitempty" maxLength:"1024"`
	}
}

func (s *Server) cancelJob(ctx context.Context, in *cancelIn) (*one[api.JobDetail], error) {
	command := state.CancelJob{JobID: in.ID, By: auth.Caller(ctx).Name, At: s.Clock().UTC()}
	if in.Body != nil {
		command.Reason = in.Body.Reason
	}
	return s.change(ctx, in.ID, command)
}

type idIn struct {
	ID string `path:"id" maxLength:"256"`
}

func (s *Server) resumeJob(ctx context.Context, in *idIn) (*one[api.JobDetail], error) {
	return s.change(ctx, in.ID, state.ResumeJob{JobID: in.ID, By: auth.Caller(ctx).Name, At: s.Clock().UTC()})
}

func (s *Server) change(ctx context.Context, id string, c state.Command) (*one[api.JobDetail], error) {
	if _, err := s.Raft.Apply(ctx, c); err != nil {
		return nil, err
	}
	d, err := s.detail(id)
	return &one[api.JobDetail]{d}, err
}

func (s *Server) listStages(ctx context.Context, in *readID) (*listOut[api.Stage], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	d, err := s.detail(in.ID)
	return listed(d.Stages), err
}

func (s *Server) listAttempts(ctx context.Context, in *readID) (*listOut[api.Attempt], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	view := s.Store.At()
	if _, err := view.Job(in.ID); err != nil {
		return nil, err
	}
	return listed(view.Attempts(in.ID)), nil
}

func (s *Server) listArtifacts(ctx context.Context, in *readID) (*listOut[api.StageArtifact], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	stages, err := s.Store.Stages(in.ID)
	if err != nil {
		return nil, err
	}
	var out []api.StageArtifact
	for _, st := range stages {
		for _, a := range st.Artifacts {
			if a, err = s.linked(ctx, a); err != nil {
				return nil, err
			}
			out = append(out, api.StageArtifact{Stage: st.Name, Artifact: a})
		}
	}
	return listed(out), nil
}

// linked returns an artifact with a link to read it by.
func (s *Server) linked(ctx context.Context, a api.Artifact) (api.Artifact, error) {
	var err error
	a.URL, err = s.Objects.PresignGet(ctx, a.Bucket, a.Key)
	return a, err
}

func (s *Server) listJobDeadLetters(ctx context.Context, in *readID) (*listOut[api.DeadLetter], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	view := s.Store.At()
	if _, err := view.Job(in.ID); err != nil {
		return nil, err
	}
	return listed(withInput(view, view.DeadLetters(in.ID))), nil
}

func (s *Server) listDeadLetters(ctx context.Context, in *readIn) (*listOut[api.DeadLetter], error) {
	if err := s.fresh(ctx, in.readParams); err != nil {
		return nil, err
	}
	view := s.Store.At()
	return listed(withInput(view, view.DeadLetters(""))), nil
}
