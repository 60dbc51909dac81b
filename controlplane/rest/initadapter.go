package rest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/plan"
)

// What the training stage calls the files of its adapter.
const (
	adapterFolder     = "adapter/"
	adapterConfigFile = adapterFolder + "adapter_config.json"
)

const maxAdapterConfig = 1 << 20

// checkAdapters finds fault with the adapters that a job's trainings are to go on
// from: each has to be a job's of this mesh, on the same base model, and to be there.
func (s *Server) checkAdapters(c state.CreateJob) []api.FieldError {
	var faults []api.FieldError
	view := s.Store.At()
	for i, n := range c.Pipeline.Nodes {
		if n.Kind != "training" {
			continue
		}
		config, prefix, err := trainingConfig(c, i)
		if err != nil || config.Training.InitAdapter == "" {
			continue // a config that cannot be read is found faulty elsewhere
		}
		err = checkAdapter(view, config.Training.InitAdapter, c.Model)
		if err == nil {
			err = allKnowAdapters(view)
		}
		if err != nil {
			faults = append(faults, api.FieldError{Field: prefix + ".training.init_adapter", Message: err.Error()})
		}
	}
	return faults
}

func checkAdapter(view state.View, id, model string) error {
	if !jobID.MatchString(id) {
		return fmt.Errorf("is %q: want the id of a job of this mesh whose training made an adapter (a folder is for a stage that is started by hand)", id)
	}
	job, err := view.Job(id)
	if err != nil {
		return err
	}
	if _, err := adapterOf(view, id); err != nil {
		return err
	}
	if job.Model != model {
		return fmt.Errorf("is job %s, whose adapter was trained on the model %s, but this job's model is %s: an adapter is worth nothing on another one", id, job.Model, model)
	}
	return nil
}

// sinceAdapters is the protocol version of the first agents that go on from an adapter.
const sinceAdapters = 5

// allKnowAdapters finds a node that could take the training and would begin with a new
// adapter without a word.
func allKnowAdapters(view state.View) error {
	for _, n := range view.Nodes() {
		if n.Protocol < sinceAdapters && n.Approval == "" && !n.Drain {
			return fmt.Errorf("cannot be had yet: node %s (%s) runs tunemesh %s, which would train a new adapter instead: upgrade it, drain it or remove it", n.Name, n.ID, n.Version)
		}
	}
	return nil
}

// adapterOf is the stage of a job that made its adapter.
func adapterOf(view state.View, id string) (api.Stage, error) {
	stages, err := view.Stages(id)
	if err != nil {
		return api.Stage{}, err
	}
	var made []api.Stage
	var names, unfinished []string
	for _, s := range stages {
		switch {
		case s.State.Done() && slices.ContainsFunc(s.Artifacts, isAdapterConfig):
			made, names = append(made, s), append(names, s.Name)
		case s.Kind == "training" && !s.State.Done():
			unfinished = append(unfinished, fmt.Sprintf("its stage %s is %s", s.Name, s.State))
		}
	}
	switch {
	case len(made) == 1:
		return made[0], nil
	case len(made) > 1:
		return api.Stage{}, fmt.Errorf("is job %s, of which several stages made an adapter: %s; which one is meant nothing tells", id, strings.Join(names, ", "))
	case len(unfinished) > 0:
		return api.Stage{}, fmt.Errorf("is job %s, which has made no adapter yet: %s", id, strings.Join(unfinished, ", "))
	}
	return api.Stage{}, fmt.Errorf("is job %s, which made no adapter: want a job that trained by training.method lora", id)
}

func isAdapterConfig(a api.Artifact) bool { return a.Name == adapterConfigFile }

// addAdapter adds the files of the adapter that a training goes on from. One that is
// not to be found is left out, and the stage says so.
func addAdapter(view state.View, stage api.Stage, out *api.Assignment) {
	if stage.Kind != "training" {
		return
	}
	config, err := contract.ParseConfig(out.Config, false)
	if err != nil || config.Training.InitAdapter == "" {
		return
	}
	from, err := adapterOf(view, config.Training.InitAdapter)
	if err != nil {
		return
	}
	for _, a := range from.Artifacts {
		if strings.HasPrefix(a.Name, adapterFolder) {
			out.Inputs = append(out.Inputs, api.StageArtifact{Stage: contract.AdapterInputs, Artifact: a})
		}
	}
}

// continued settles what a training has from the adapter that it goes on from, and
// says so. Where the adapter cannot be read now, the stage itself will look.
func (s *Server) continued(ctx context.Context, c contract.Config) (contract.TrainingConfig, []plan.Setting, *contract.Error) {
	id := c.Training.InitAdapter
	if id == "" {
		return c.Training, nil, nil
	}
	document, err := s.adapterConfig(ctx, id)
	if err != nil {
		s.Log.Info("a job's adapter is not checked", "adapter_of", id, "error", err)
		return c.Training, nil, nil
	}
	t, settings, err := plan.Continue(c, document)
	var fault *contract.Error
	if errors.As(err, &fault) {
		return t, nil, fault
	}
	from := plan.Setting{Field: "training.init_adapter", Value: id, Reason: "the training goes on from this job's adapter"}
	return t, append([]plan.Setting{from}, settings...), nil
}

func (s *Server) adapterConfig(ctx context.Context, id string) ([]byte, error) {
	stage, err := adapterOf(s.Store.At(), id)
	if err != nil {
		return nil, err
	}
	a := stage.Artifacts[slices.IndexFunc(stage.Artifacts, isAdapterConfig)]
	r, err := s.Objects.Get(ctx, a.Bucket, a.Key)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxAdapterConfig))
	if err != nil {
		return nil, fmt.Errorf("%s of job %s: %w", a.Name, id, err)
	}
	return data, nil
}

// trainingConfig is the config of a pipeline's stage that trains, with its defaults,
// and where the fields of the training stand.
func trainingConfig(c state.CreateJob, i int) (config contract.Config, prefix string, err error) {
	n := c.Pipeline.Nodes[i]
	prefix, raw := "config", c.Spec.Config
	if len(n.Config) > 0 {
		if raw, err = overlay(c.Spec.Config, n.Config); err != nil {
			return config, prefix, err
		}
		if own, _ := contract.ParseConfig(n.Config, false); !isZero(own.Training) {
			prefix = fmt.Sprintf("pipeline.nodes[%d].config", i)
		}
	}
	config, err = contract.ParseConfig(raw, false)
	return config.WithDefaults(), prefix, err
}
