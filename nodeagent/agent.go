package nodeagent

import (
	"context"
	"errors"
)

// Agent is one node's agent.
type Agent struct {
	cfg Config
	cp  ControlPlane
}

// New prepares an agent on its directory.
func New(cfg Config, cp ControlPlane) (*Agent, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	return &Agent{cfg: cfg, cp: cp}, nil
}

// NodeID is the node's id, derived from its key.
func (a *Agent) NodeID() string { return "" }

// Run does the agent's work until ctx ends.
func (a *Agent) Run(ctx context.Context) error { return errors.ErrUnsupported }
