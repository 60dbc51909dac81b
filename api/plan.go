package api

// JobPlan is what a job would do, before it is submitted: the settings that its
// config leaves open, with the reason for each, and the memory that its trainings
// need. The body of the request is a JobSpec, whose dataset may be left out.
//
//	POST /v1/plans
type JobPlan struct {
	Model  string      `json:"model,omitempty"`
	Stages []StagePlan `json:"stages" doc:"the stages that train"`
}

// StagePlan is the plan of one stage.
type StagePlan struct {
	Stage       string        `json:"stage"`
	Engine      string        `json:"engine" example:"peft"`
	Settings    []PlanSetting `json:"settings"`
	MemoryBytes int64         `json:"memory_bytes,omitempty" doc:"the estimated peak, which the placement reserves: of the node, or of each GPU"`
	Memory      []PlanPart    `json:"memory,omitempty" doc:"of which"`
	Nodes       []PlanNode    `json:"nodes" doc:"every node, and whether it has what the stage needs beside memory"`
	Waits       string        `json:"waits,omitempty" doc:"why no node could take the stage now"`
}

// PlanNode is what is to be said of a node for one stage.
type PlanNode struct {
	Node   string `json:"node" example:"ws-anna"`
	CanRun bool   `json:"can_run"`
	Reason string `json:"reason" doc:"on what, or what it lacks" example:"not installed: run tunemesh engine install peft"`
}

// PlanSetting is a setting that was left open.
type PlanSetting struct {
	Field  string `json:"field" example:"training.batch_size"`
	Value  string `json:"value" example:"8"`
	Reason string `json:"reason"`
}

// PlanPart is one use of memory.
type PlanPart struct {
	Name  string `json:"name" example:"activations"`
	Bytes int64  `json:"bytes"`
}
