package rest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"

	"github.com/oklog/ulid/v2"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/controlplane/state"
	"github.com/tunemesh/tunemesh/trainer/contract"
	"github.com/tunemesh/tunemesh/trainer/plan"
)

// assumedLength is what the longest sample is taken for where max_length does not
// say it: the data are not tokenized yet.
const assumedLength = 512

const maxModelConfig = 1 << 20

// shapes remembers what models' config.json say, by their content.
type shapes struct {
	mu   sync.Mutex
	seen map[string]plan.Shape
}

func (s *Server) planRoutes() {
	add(s, api.RoleUser, op("POST", "/v1/plans", tagJobs, "plan-job", "Say what a job would do, without submitting it"), s.planJob)
}

type planOut struct{ Body api.JobPlan }

// planJob says what a job would do, or what is wrong with it.
func (s *Server) planJob(ctx context.Context, in *submitIn) (*planOut, error) {
	spec := in.Body
	if spec.ID == "" {
		spec.ID = ulid.Make().String() // of no job: only checked
	}
	command, faults := s.checkJob(spec)
	if spec.Dataset == "" { // what it would do does not depend on it
		faults = slices.DeleteFunc(faults, func(f api.FieldError) bool { return f.Field == "dataset" })
	}
	if len(faults) > 0 {
		return nil, invalid(faults...)
	}
	out, faults := s.plan(ctx, &command)
	if len(faults) > 0 {
		return nil, invalid(faults...)
	}
	return &planOut{out}, nil
}

// plan settles each stage of a checked job that trains, and lets it require the
// memory that it needs. A training that fits on no node is a fault; one whose engine
// no node has waits, as the plan says. Where the model's shape cannot be read nothing
// is planned: the stage itself will look again.
func (s *Server) plan(ctx context.Context, c *state.CreateJob) (api.JobPlan, []api.FieldError) {
	out := api.JobPlan{Model: c.Model, Stages: []api.StagePlan{}}
	var faults []api.FieldError
	nodes := s.Store.Nodes()
	for i := range c.Pipeline.Nodes {
		n := &c.Pipeline.Nodes[i]
		if n.Kind != "training" || c.Model == "" {
			continue
		}
		shape, err := s.modelShape(ctx, c.Model)
		if err != nil {
			s.Log.Info("a job is not planned", "job", c.Spec.ID, "model", c.Model, "error", err)
			continue
		}
		config, prefix, err := trainingConfig(*c, i)
		if err != nil {
			continue // checked before
		}
		training, told, fault := s.continued(ctx, config)
		if fault != nil {
			faults = append(faults, api.FieldError{Field: prefix + "." + fault.Field, Message: fault.Message + "; " + fault.Hint})
			continue
		}
		config.Training = training
		if f, few := tooFewGPUs(config.Training, *n); few {
			f.Field = prefix + "." + f.Field
			faults = append(faults, f)
			continue
		}
		machine, said := best(nodes, *n, config.Training)
		settled, err := plan.Settle(config.Training, shape, machine, samplesOf(config, shape))
		var misfit *contract.Error
		if errors.As(err, &misfit) {
			faults = append(faults, api.FieldError{Field: prefix + "." + misfit.Field, Message: misfit.Message + "; " + misfit.Hint})
			continue
		}
		settled.Settings = append(told, settled.Settings...)
		reserve(n, settled)
		planned := stagePlan(n.Name, settled)
		planned.Engine, planned.Nodes, planned.Waits = n.Requires.Engine, said, waits(*n, nodes, said)
		out.Stages = append(out.Stages, planned)
	}
	return out, faults
}

// reserve makes a stage require the memory that it needs where its spec does not say:
// of each of its cards, or of the node.
func reserve(n *api.StageSpec, settled plan.Settled) {
	need := &n.Requires.MemoryBytes
	if settled.Run.Torch != nil && gpusOf(*n) > 0 {
		need = &n.Requires.GPUMemoryBytes
	}
	if *need == 0 {
		*need = settled.Estimate.Total()
	}
}

func isZero(t contract.TrainingConfig) bool {
	data, err := json.Marshal(t)
	return err == nil && string(data) == "{}"
}

func samplesOf(c contract.Config, shape plan.Shape) plan.Data {
	if n := c.Preprocessing.MaxLength; n > 0 {
		return plan.Data{Length: min(n, shape.Context)}
	}
	return plan.Data{Length: min(assumedLength, shape.Context), Assume: "assumed: preprocessing.max_length is not given"}
}

func stagePlan(name string, settled plan.Settled) api.StagePlan {
	out := api.StagePlan{Stage: name, Settings: []api.PlanSetting{}, MemoryBytes: settled.Estimate.Total()}
	for _, st := range settled.Settings {
		out.Settings = append(out.Settings, api.PlanSetting(st))
	}
	for _, p := range settled.Estimate.Parts {
		out.Memory = append(out.Memory, api.PlanPart(p))
	}
	return out
}

// modelShape reads a model's config.json from the object store, once.
func (s *Server) modelShape(ctx context.Context, name string) (plan.Shape, error) {
	model, err := s.Store.Model(name)
	if err != nil {
		return plan.Shape{}, err
	}
	s.shapes.mu.Lock()
	shape, ok := s.shapes.seen[model.SHA256]
	s.shapes.mu.Unlock()
	if ok {
		return shape, nil
	}
	i := slices.IndexFunc(model.Files, func(a api.Artifact) bool { return a.Name == "config.json" })
	if i < 0 {
		return plan.Shape{}, fmt.Errorf("model %s has no config.json", name)
	}
	r, err := s.Objects.Get(ctx, model.Files[i].Bucket, model.Files[i].Key)
	if err != nil {
		return plan.Shape{}, err
	}
	defer r.Close()
	data, err := io.ReadAll(io.LimitReader(r, maxModelConfig))
	if err != nil {
		return plan.Shape{}, fmt.Errorf("model %s: config.json: %w", name, err)
	}
	if shape, err = plan.ParseShape(data); err != nil {
		return plan.Shape{}, err
	}
	s.shapes.mu.Lock()
	defer s.shapes.mu.Unlock()
	if s.shapes.seen == nil {
		s.shapes.seen = map[string]plan.Shape{}
	}
	s.shapes.seen[model.SHA256] = shape
	return shape, nil
}
