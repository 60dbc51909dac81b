package history

import (
	"encoding/json"
	"fmt"
	"os"
)

// FileName is the log's name as an artifact.
const FileName = "training_log.json"

// Step is what was measured over the steps since the one logged before.
type Step struct {
	Step         int     `json:"step"`  // updates done
	Epoch        float64 `json:"epoch"` // passes over the data done
	Loss         float64 `json:"loss"`  // mean over the targets, nats
	LearningRate float64 `json:"learning_rate"`
	GradNorm     float64 `json:"grad_norm"` // of the last step, before clipping
	Tokens       int64   `json:"tokens"`    // of all steps so far, prompts included
}

// Evaluation is one pass over the validation split.
type Evaluation struct {
	Step     int     `json:"step"`
	Epoch    float64 `json:"epoch"`
	EvalLoss float64 `json:"eval_loss"` // mean over the targets, nats
}

// Log is the whole record.
type Log struct {
	Steps       []Step       `json:"steps"`
	Evaluations []Evaluation `json:"evaluations"`
}

// BestEvalLoss is the lowest one, and false if there was no evaluation.
func (l Log) BestEvalLoss() (Evaluation, bool) {
	if len(l.Evaluations) == 0 {
		return Evaluation{}, false
	}
	best := l.Evaluations[0]
	for _, e := range l.Evaluations {
		if e.EvalLoss < best.EvalLoss {
			best = e
		}
	}
	return best, true
}

// Write writes the log to path.
func (l Log) Write(path string) error {
	data, err := json.MarshalIndent(l, "", " ")
	if err != nil {
		return fmt.Errorf("training log: %w", err)
	}
	if err := os.WriteFile(path, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("training log: %w", err)
	}
	return nil
}

// Read reads a log.
func Read(path string) (Log, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Log{}, fmt.Errorf("training log: %w", err)
	}
	var l Log
	if err := json.Unmarshal(data, &l); err != nil {
		return Log{}, fmt.Errorf("training log %s: %w", path, err)
	}
	return l, nil
}
