package spool

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api"
)

// maxEvent is the largest event in bytes of JSON. Escapes can blow a line of
// control characters up sixfold.
const maxEvent = 128 << 10

// Source says whose lines they are.
type Source struct {
	RunID   string
	Stage   string
	Attempt int
	Fence   uint64
	Node    string
	Now     func() time.Time
}

var checkpointName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// Event turns a line into an event. A line that is no JSON object becomes an
// INFO event with the line as its message; of an object, what the contract does
// not know is kept in the event's fields.
func (s Source) Event(line Line) api.Event {
	if line.From > 0 {
		return s.gap(line)
	}
	ev := api.Event{Level: api.LevelInfo}
	text := bytes.TrimSpace(line.Text)
	if len(text) == 0 || text[0] != '{' || !decode(text, &ev) {
		ev = api.Event{Level: api.LevelInfo, Message: clean(line.Text)}
	}
	if line.Size > MaxLine {
		ev.Message += fmt.Sprintf(" [cut: the line was %d bytes long]", line.Size)
	}
	if ev.Timestamp.IsZero() {
		ev.Timestamp = s.Now().UTC()
	}
	ev.RunID, ev.Stage, ev.Attempt, ev.Fence, ev.Node, ev.SourceSeq = s.RunID, s.Stage, s.Attempt, s.Fence, s.Node, line.Seq
	if data, err := json.Marshal(ev); err != nil || len(data) > maxEvent {
		ev.Message = clean([]byte(ev.Message[:min(len(ev.Message), 8<<10)])) + fmt.Sprintf(" [cut: the event was %d bytes long]", len(data))
		ev.Fields = nil
		if ev.Progress != nil && len(ev.Progress.Unit) > 64 {
			ev.Progress = nil
		}
		ev.Agent, ev.ErrorCode = ev.Agent[:min(len(ev.Agent), 64)], ev.ErrorCode[:min(len(ev.ErrorCode), 64)]
	}
	return ev
}

// CodeLinesDropped marks the event that stands for lines that are missing.
const CodeLinesDropped = "LINES_DROPPED"

// gap is the event that stands for lines that were dropped.
func (s Source) gap(line Line) api.Event {
	g := &api.Gap{From: line.From, To: line.Seq, Bytes: line.Size, Why: "the node's spool reached its limit"}
	return api.Event{
		Timestamp: s.Now().UTC(), Level: api.LevelWarn, ErrorCode: CodeLinesDropped, Gap: g,
		Message: fmt.Sprintf("%d lines of the stage's output are missing, numbers %d to %d (%d bytes): %s", g.Count(), g.From, g.To, g.Bytes, g.Why),
		RunID:   s.RunID, Stage: s.Stage, Attempt: s.Attempt, Fence: s.Fence, Node: s.Node, SourceSeq: line.Seq,
	}
}

func clean(b []byte) string { return strings.ToValidUTF8(string(b), "\uFFFD") }

// decode reads an object key by key, so that one odd value does not cost the
// rest. It is false for what is no JSON object.
func decode(text []byte, ev *api.Event) bool {
	var object map[string]json.RawMessage
	if json.Unmarshal(text, &object) != nil || object == nil {
		return false
	}
	rest := map[string]json.RawMessage{}
	known := map[string]any{
		"timestamp": &ev.Timestamp, "level": &ev.Level, "agent": &ev.Agent, "message": &ev.Message,
		"step": &ev.Step, "epoch": &ev.Epoch, "loss": &ev.Loss, "eval_loss": &ev.EvalLoss,
		"learning_rate": &ev.LearningRate, "samples_per_sec": &ev.SamplesPerSec, "tokens_per_sec": &ev.TokensPerSec, "grad_norm": &ev.GradNorm,
		"progress": &ev.Progress, "checkpoint": &ev.Checkpoint, "error_code": &ev.ErrorCode,
	}
	for key, value := range object {
		switch key {
		case "run_id", "stage", "attempt", "fence", "node", "seq", "source_seq":
			// The agent knows these better than the stage.
		case "fields":
			var fields map[string]json.RawMessage
			if json.Unmarshal(value, &fields) != nil {
				rest[key] = value
			}
			for k, v := range fields {
				rest[k] = v
			}
		default:
			if target, ok := known[key]; !ok || !into(value, target) {
				if _, taken := rest[key]; !taken {
					rest[key] = value
				}
			}
		}
	}
	if ev.Checkpoint != "" && !checkpointName.MatchString(ev.Checkpoint) {
		rest["checkpoint"], _ = json.Marshal(ev.Checkpoint)
		ev.Checkpoint = ""
	}
	ev.Level = level(ev.Level)
	if !ev.Timestamp.IsZero() {
		ev.Timestamp = ev.Timestamp.UTC()
	}
	if y := ev.Timestamp.Year(); y < 1 || y > 9999 {
		ev.Timestamp = time.Time{}
	}
	if len(rest) > 0 {
		ev.Fields, _ = json.Marshal(rest)
	}
	return true
}

// into decodes a value and leaves the target as it was if it does not fit.
func into(value json.RawMessage, target any) bool {
	if err := json.Unmarshal(value, target); err == nil {
		return true
	}
	// Unmarshal may have filled in a part of it, or made a pointer to zero.
	switch t := target.(type) {
	case *string:
		*t = ""
	case *time.Time:
		*t = time.Time{}
	case **int64:
		*t = nil
	case **float64:
		*t = nil
	case **api.Progress:
		*t = nil
	}
	return false
}

// level maps what logging libraries print to the levels of an event. STATE is
// the control plane's own.
func level(s string) string {
	switch strings.ToUpper(s) {
	case "WARN", "WARNING":
		return api.LevelWarn
	case "ERROR", "CRITICAL", "FATAL", "PANIC":
		return api.LevelError
	case "METRIC":
		return api.LevelMetric
	}
	return api.LevelInfo
}
