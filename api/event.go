package api

import (
	"encoding/json"
	"time"
)

// Levels of an event.
const (
	LevelInfo   = "INFO"
	LevelWarn   = "WARN"
	LevelError  = "ERROR"
	LevelMetric = "METRIC"
	LevelState  = "STATE"
)

// Event is one line of a job's ordered stream.
type Event struct {
	// Seq is the event's number in the job's stream, from 1, without holes.
	Seq       uint64    `json:"seq"`
	RunID     string    `json:"run_id"`
	Timestamp time.Time `json:"timestamp"`
	Level     string    `json:"level"`
	Agent     string    `json:"agent,omitempty"`
	Stage     string    `json:"stage,omitempty"`
	Attempt   int       `json:"attempt,omitempty"`
	Fence     uint64    `json:"fence,omitempty"`
	Node      string    `json:"node,omitempty"`
	// SourceSeq is the line's number within its attempt, from 1; within the
	// control plane's own STATE events the number of the transition.
	SourceSeq uint64 `json:"source_seq,omitempty"`
	Message   string `json:"message,omitempty"`

	Step          *int64   `json:"step,omitempty"`
	Epoch         *float64 `json:"epoch,omitempty"`
	Loss          *float64 `json:"loss,omitempty"`
	EvalLoss      *float64 `json:"eval_loss,omitempty"`
	LearningRate  *float64 `json:"learning_rate,omitempty"`
	SamplesPerSec *float64 `json:"samples_per_sec,omitempty"`
	TokensPerSec  *float64 `json:"tokens_per_sec,omitempty"`
	GradNorm      *float64 `json:"grad_norm,omitempty"`

	Progress   *Progress       `json:"progress,omitempty"`
	Checkpoint string          `json:"checkpoint,omitempty"`
	ErrorCode  string          `json:"error_code,omitempty"`
	From       string          `json:"from,omitempty" doc:"STATE: the state before"`
	To         string          `json:"to,omitempty" doc:"STATE: the state after"`
	Gap        *Gap            `json:"gap,omitempty" doc:"lines that are missing in the place of this event"`
	Fields     json.RawMessage `json:"fields,omitempty"`
}

// Progress is how far a stage is.
type Progress struct {
	Done       int64   `json:"done"`
	Total      int64   `json:"total,omitempty"`
	Unit       string  `json:"unit"`
	ETASeconds float64 `json:"eta_seconds,omitempty"`
}
