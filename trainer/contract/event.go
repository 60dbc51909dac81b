package contract

import (
	"encoding/json"
	"io"
	"sync"
	"time"
)

// Levels of an event.
const (
	LevelInfo   = "INFO"
	LevelWarn   = "WARN"
	LevelError  = "ERROR"
	LevelMetric = "METRIC"
)

// Event is one JSON line on a stage's standard output. The agent adds run_id,
// stage, attempt and sequence number; a line that is not JSON becomes an INFO
// event with the line as its message. Pointers tell "not measured" from zero.
type Event struct {
	Timestamp time.Time `json:"timestamp"`
	Level     string    `json:"level"`
	Agent     string    `json:"agent"` // TrainingAgent
	Message   string    `json:"message,omitempty"`

	Step          *int64   `json:"step,omitempty"`
	Epoch         *float64 `json:"epoch,omitempty"`
	Loss          *float64 `json:"loss,omitempty"`
	EvalLoss      *float64 `json:"eval_loss,omitempty"`
	LearningRate  *float64 `json:"learning_rate,omitempty"`
	SamplesPerSec *float64 `json:"samples_per_sec,omitempty"`
	TokensPerSec  *float64 `json:"tokens_per_sec,omitempty"`
	GradNorm      *float64 `json:"grad_norm,omitempty"`

	Progress *Progress `json:"progress,omitempty"`

	// Checkpoint names a folder of checkpoint_dir that is complete: the agent
	// copies it to the object store.
	Checkpoint string `json:"checkpoint,omitempty"`

	ErrorCode string         `json:"error_code,omitempty"`
	Fields    map[string]any `json:"fields,omitempty"`
}

// Progress is how far a stage is.
type Progress struct {
	Done       int64   `json:"done"`
	Total      int64   `json:"total,omitempty"` // 0: not known yet
	Unit       string  `json:"unit"`            // rows, steps, bytes
	ETASeconds float64 `json:"eta_seconds,omitempty"`
}

// Emitter writes events as JSON lines, one Write per line, safely from several
// goroutines.
type Emitter struct {
	mu    sync.Mutex
	w     io.Writer
	agent string
	now   func() time.Time
}

// NewEmitter returns an emitter that signs its events as agent.
func NewEmitter(w io.Writer, agent string, now func() time.Time) *Emitter {
	return &Emitter{w: w, agent: agent, now: now}
}

// Emit writes one event; time, level and agent are filled in where empty. A
// failed write is dropped: a stage must not die of its log.
func (e *Emitter) Emit(ev Event) {
	if ev.Timestamp.IsZero() {
		ev.Timestamp = e.now().UTC()
	}
	if ev.Level == "" {
		ev.Level = LevelInfo
	}
	if ev.Agent == "" {
		ev.Agent = e.agent
	}
	line, err := json.Marshal(ev)
	if err != nil { // a NaN loss does not fit JSON; say it in words
		line, _ = json.Marshal(Event{Timestamp: ev.Timestamp, Level: LevelWarn, Agent: ev.Agent, Message: ev.Message, ErrorCode: "UNENCODABLE_EVENT", Fields: map[string]any{"reason": err.Error()}})
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	_, _ = e.w.Write(append(line, '\n'))
}

// Info writes a log event.
func (e *Emitter) Info(message string, fields map[string]any) {
	e.Emit(Event{Level: LevelInfo, Message: message, Fields: fields})
}

// Warn writes a warning with its code.
func (e *Emitter) Warn(code, message string, fields map[string]any) {
	e.Emit(Event{Level: LevelWarn, ErrorCode: code, Message: message, Fields: fields})
}

// Progress reports how far the stage is.
func (e *Emitter) Progress(p Progress) {
	e.Emit(Event{Level: LevelMetric, Progress: &p})
}
