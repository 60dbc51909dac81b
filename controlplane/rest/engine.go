package rest

import (
	"encoding/json"
	"fmt"
	"slices"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/trainer/contract"
)

// placeEngines makes each training stage require the engine that its config
// names, so that it is placed on a node that has it. Where the pipeline itself
// names another, that is a fault. A config that cannot be read is found faulty
// elsewhere.
func placeEngines(job json.RawMessage, p *api.Pipeline) []api.FieldError {
	var faults []api.FieldError
	p.Nodes = slices.Clone(p.Nodes)
	for i := range p.Nodes {
		n := &p.Nodes[i]
		if kind := n.Kind; kind != "training" && (kind != "" || n.Name != "training" || len(n.Command) > 0) {
			continue
		}
		merged, err := overlay(job, n.Config)
		if err != nil {
			continue
		}
		config, err := contract.ParseConfig(merged, false)
		if err != nil {
			continue
		}
		wanted := config.Training.EngineFor(gpusOf(*n))
		switch named := config.Training.Engine; {
		case n.Requires.Engine == "":
			n.Requires.Engine = wanted
		case named != "" && named != "auto" && named != n.Requires.Engine:
			faults = append(faults, api.FieldError{
				Field:   fmt.Sprintf("pipeline.nodes[%d].requires.engine", i),
				Message: fmt.Sprintf("is %s, but training.engine of the config is %s", n.Requires.Engine, named),
			})
		}
	}
	return faults
}
