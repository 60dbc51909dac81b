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
	Settings    []PlanSetting `json:"settings"`
	MemoryBytes int64         `json:"memory_bytes,omitempty" doc:"the estimated peak, which the placement reserves; absent where it is not known"`
	Memory      []PlanPart    `json:"memory,omitempty" doc:"of which"`
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
