package api

import (
	"encoding/json"
	"slices"
	"time"
)

// StageState is the state of one node of a job's DAG.
//
//	pending --> ready --> running --> succeeded
//	   |          ^  \       |  \---> failed --(resume)--> ready
//	   |          |   \      |
//	   |          +----\-----+ (retry, lost node)
//	   +--> skipped     +--> cancelled --(resume)--> pending | ready
type StageState string

// States of a stage.
const (
	StagePending   StageState = "pending"   // a predecessor has not succeeded
	StageReady     StageState = "ready"     // waits for a placement
	StageRunning   StageState = "running"   // an attempt is placed
	StageSucceeded StageState = "succeeded" // its manifest is in Raft
	StageFailed    StageState = "failed"    // a dead letter
	StageCancelled StageState = "cancelled"
	StageSkipped   StageState = "skipped" // an equal result was there
)

var stageTransitions = map[StageState][]StageState{
	StagePending:   {StageReady, StageCancelled, StageSkipped},
	StageReady:     {StageRunning, StageCancelled, StageSkipped},
	StageRunning:   {StageReady, StageSucceeded, StageFailed, StageCancelled},
	StageFailed:    {StageReady, StageCancelled},
	StageCancelled: {StagePending, StageReady},
}

// CanBecome says whether a transition is legal.
func (s StageState) CanBecome(next StageState) bool {
	return slices.Contains(stageTransitions[s], next)
}

// Done says whether successors may start.
func (s StageState) Done() bool { return s == StageSucceeded || s == StageSkipped }

// Stage is one node of a job's DAG and what became of it.
type Stage struct {
	JobID string `json:"job_id"`
	StageSpec
	After []string   `json:"after,omitempty" doc:"names of the predecessors"`
	State StageState `json:"state"`
	// Attempt counts from 1; Fence is the current attempt's token.
	Attempt int    `json:"attempt,omitempty"`
	Fence   uint64 `json:"fence,omitempty"`
	Node    string `json:"node,omitempty" doc:"where the current attempt runs or the last one ran"`
	// Tries counts the failures since the job was submitted or resumed.
	Tries     int        `json:"tries,omitempty"`
	NotBefore *time.Time `json:"not_before,omitempty" doc:"backoff: no new attempt before this time"`
	// WaitReason says in words why a ready stage is not placed. Only servers
	// that lead know it; it is not replicated.
	WaitReason string `json:"wait_reason,omitempty"`

	ReadyAt    *time.Time `json:"ready_at,omitempty"`
	StartedAt  *time.Time `json:"started_at,omitempty"`
	FinishedAt *time.Time `json:"finished_at,omitempty"`

	Output  json.RawMessage    `json:"output,omitempty"`
	Metrics map[string]float64 `json:"metrics,omitempty"`
	// Artifacts of a stage that has not succeeded are what its last attempt left
	// behind; successors never get those.
	Artifacts   []Artifact   `json:"artifacts,omitempty"`
	Checkpoints []Checkpoint `json:"checkpoints,omitempty"`
	Error       *StageError  `json:"error,omitempty"`
	// Published: the copies under their well-known names are written.
	Published bool   `json:"published,omitempty"`
	Index     uint64 `json:"index"`
}

// StageError is why an attempt failed. Its fields are those of the contract.
type StageError struct {
	Class   string `json:"class"`
	Code    string `json:"code"`
	Message string `json:"message"`
	File    string `json:"file,omitempty"`
	Row     int64  `json:"row,omitempty"`
	Column  string `json:"column,omitempty"`
	Field   string `json:"field,omitempty"`
	Hint    string `json:"hint,omitempty"`
	// Retryable is decided by the class.
	Retryable bool `json:"retryable"`
}

// Checkpoint is a saved state of a stage that its later attempts start from.
type Checkpoint struct {
	Name  string     `json:"name" example:"epoch_2"`
	Fence uint64     `json:"fence"`
	Files []Artifact `json:"files"`
	At    time.Time  `json:"at"`
}
