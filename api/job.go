package api

import (
	"encoding/json"
	"time"
)

// JobState is the state of a job as a whole; it follows from its stages.
//
//	pending -> running -> succeeded
//	                   -> failed     (a stage is a dead letter)
//	                   -> cancelled
//	failed, cancelled -> running     (resume)
type JobState string

// States of a job.
const (
	JobPending   JobState = "pending"
	JobRunning   JobState = "running"
	JobSucceeded JobState = "succeeded"
	JobFailed    JobState = "failed"
	JobCancelled JobState = "cancelled"
)

// Terminal says whether nothing more happens by itself.
func (s JobState) Terminal() bool {
	return s == JobSucceeded || s == JobFailed || s == JobCancelled
}

// JobSpec is what a user submits.
type JobSpec struct {
	// ID may be chosen by the client (a ULID). The same id with the same spec is
	// the same job, so that a submit can be repeated after an unknown outcome.
	ID       string            `json:"id,omitempty" doc:"client-chosen ULID; makes a repeated submit safe" maxLength:"64"`
	Name     string            `json:"name,omitempty" maxLength:"128"`
	Dataset  string            `json:"dataset" doc:"id of an uploaded dataset" example:"ds_3f2a9c41d07b8e65"`
	Priority int               `json:"priority,omitempty" doc:"-100 to 100; higher goes first" minimum:"-100" maximum:"100"`
	Labels   map[string]string `json:"labels,omitempty"`
	// Config is read by the stages; see docs/config.md.
	Config json.RawMessage `json:"config,omitempty"`
	// Pipeline replaces the default chain.
	Pipeline *Pipeline `json:"pipeline,omitempty"`
}

// Job is one execution of a pipeline on a dataset.
type Job struct {
	JobSpec
	State      JobState   `json:"state"`
	Reason     string     `json:"reason,omitempty" doc:"why it failed or was cancelled"`
	CreatedBy  string     `json:"created_by,omitempty"`
	CreatedAt  time.Time  `json:"created_at"`
	StartedAt  *time.Time `json:"started_at,omitempty"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`
	Model      string     `json:"model,omitempty" doc:"base model, resolved at submit"`
	// TraceParent is the span that the job was submitted in, as a W3C traceparent.
	TraceParent string `json:"trace_parent,omitempty"`
	// Index is the Raft index of the last change.
	Index uint64 `json:"index"`
}

// JobDetail is a job with its stages in topological order.
type JobDetail struct {
	Job
	Stages []Stage `json:"stages"`
}
