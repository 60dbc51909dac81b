package api

import "time"

// AttemptState is the state of one try of a stage on one node.
//
//	placed -> running -> succeeded | failed | cancelled
//	placed, running -> unknown (node disconnected) -> what it was | lost
//	placed, running -> lost (its connected node does not run it)
type AttemptState string

// States of an attempt.
const (
	AttemptPlaced    AttemptState = "placed"
	AttemptRunning   AttemptState = "running"
	AttemptUnknown   AttemptState = "unknown"
	AttemptSucceeded AttemptState = "succeeded"
	AttemptFailed    AttemptState = "failed"
	AttemptCancelled AttemptState = "cancelled"
	AttemptLost      AttemptState = "lost"
)

// Terminal says whether the attempt can change no more.
func (s AttemptState) Terminal() bool {
	switch s {
	case AttemptSucceeded, AttemptFailed, AttemptCancelled, AttemptLost:
		return true
	}
	return false
}

// Attempt is one try of a stage on one node.
type Attempt struct {
	// Fence is the Raft index of the entry that placed the attempt, with its place
	// in the entry in the low bits: unique in the mesh and rising. It is the
	// attempt's id.
	Fence   uint64       `json:"fence"`
	JobID   string       `json:"job_id"`
	Stage   string       `json:"stage"`
	Number  int          `json:"number"`
	NodeID  string       `json:"node_id"`
	State   AttemptState `json:"state"`
	Devices Devices      `json:"devices"`
	// TraceParent is the span of its placement, as a W3C traceparent.
	TraceParent string     `json:"trace_parent,omitempty"`
	PlacedAt    time.Time  `json:"placed_at"`
	StartedAt   *time.Time `json:"started_at,omitempty"`
	FinishedAt  *time.Time `json:"finished_at,omitempty"`
	// UnknownAt is when the node fell silent.
	UnknownAt *time.Time  `json:"unknown_at,omitempty"`
	Error     *StageError `json:"error,omitempty"`
	// Lines is how many lines of output it reported at its end.
	Lines uint64 `json:"lines,omitempty"`
	Index uint64 `json:"index"`
}

// Devices is what a placement reserves on its node.
type Devices struct {
	CPUCores    int   `json:"cpu_cores,omitempty"`
	MemoryBytes int64 `json:"memory_bytes,omitempty"`
	GPUs        []int `json:"gpus,omitempty"`
	// GPUMemoryBytes is what the smallest of the GPUs has to give.
	GPUMemoryBytes int64  `json:"gpu_memory_bytes,omitempty" doc:"of the smallest of the GPUs"`
	Engine         string `json:"engine,omitempty"`
}

// DeadLetter is a stage that exhausted its attempts, with all that is needed to
// understand it and to try again.
type DeadLetter struct {
	JobID  string     `json:"job_id"`
	Stage  string     `json:"stage"`
	Fence  uint64     `json:"fence" doc:"of the last attempt"`
	Tries  int        `json:"tries"`
	NodeID string     `json:"node_id"`
	Error  StageError `json:"error"`
	// Input is what the last attempt was given; filled in when asked for.
	Input *Assignment `json:"input,omitempty"`
	// Artifacts are what the last attempt left behind: a report on the data it
	// refused. No later stage gets them.
	Artifacts []Artifact `json:"artifacts,omitempty"`
	// Events are the attempt's last events, newest last.
	Events []Event   `json:"events,omitempty"`
	At     time.Time `json:"at"`
}
