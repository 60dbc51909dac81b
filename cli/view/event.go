package view

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
)

// LogLine writes an event on one line: time, level, stage, what it says and its
// own fields.
func LogLine(e api.Event, style format.Style, where *time.Location) string {
	return logPrefix(e, style, where) + format.Clean(text(e, true))
}

// LogLines is LogLine broken into lines of at most width cells, the second and
// later ones below the text of the first.
func LogLines(e api.Event, style format.Style, where *time.Location, width int, fields bool) []string {
	prefix := logPrefix(e, style, where)
	if width-format.Width(prefix) < 20 { // a very long name of a stage, a narrow screen
		return []string{format.Cut(prefix+format.Clean(text(e, fields)), width)}
	}
	return strings.Split(format.Indent(prefix, format.Clean(text(e, fields)), width), "\n")
}

// logPrefix is what stands before an event's text.
func logPrefix(e api.Event, style format.Style, where *time.Location) string {
	level := format.Fit(format.Clean(e.Level), 6)
	switch e.Level {
	case api.LevelError:
		level = style.Bad(level)
	case api.LevelWarn:
		level = style.Warn(level)
	case api.LevelState:
		level = style.Busy(level)
	case api.LevelMetric:
		level = style.Faint(level)
	}
	stage := e.Stage
	if stage == "" {
		stage = "job"
	}
	stage = format.Clean(stage)
	return fmt.Sprintf("%s  %s  %s  ", style.Faint(clock(e.Timestamp, where)), level, format.Fit(stage, max(format.Width(stage), 13)))
}

func clock(t time.Time, where *time.Location) string { return t.In(where).Format("15:04:05") }

// text is what an event says, without its time, level and stage; its own fields
// only if told.
func text(e api.Event, fields bool) string {
	var parts []string
	add := func(format string, args ...any) { parts = append(parts, fmt.Sprintf(format, args...)) }
	switch {
	case e.Level == api.LevelState && e.To != "":
		parts = append(parts, stateText(e))
	case e.Level == api.LevelMetric:
		parts = append(parts, Measured(e))
		if e.Message != "" {
			parts = append(parts, e.Message)
		}
	default:
		if e.ErrorCode != "" && !strings.Contains(e.Message, e.ErrorCode) {
			parts = append(parts, e.ErrorCode+":")
		}
		if e.Message != "" {
			parts = append(parts, e.Message)
		}
		if m := Measured(e); m != "" {
			parts = append(parts, m)
		}
	}
	if e.Checkpoint != "" {
		add("checkpoint %s", e.Checkpoint)
	}
	if f := fieldText(e.Fields); fields && f != "" {
		parts = append(parts, f)
	}
	return strings.TrimSpace(strings.Join(slices.DeleteFunc(parts, func(p string) bool { return p == "" }), " "))
}

// stateText says what a change of state was: in the control plane's words where
// there are some, less the stage's name, which stands in front of them.
func stateText(e api.Event) string {
	if e.Message != "" {
		s := strings.TrimPrefix(strings.TrimPrefix(e.Message, "stage "+e.Stage+" "), "job ")
		if e.ErrorCode != "" && !strings.Contains(s, e.ErrorCode) {
			s += " (" + e.ErrorCode + ")"
		}
		return s
	}
	s := e.To
	if e.Stage != "" && e.Node != "" && e.To == string(api.StageRunning) {
		s += " on " + e.Node
	}
	if e.Attempt > 1 {
		s += fmt.Sprintf(" (attempt %d)", e.Attempt)
	}
	if e.ErrorCode != "" {
		s += ": " + e.ErrorCode
	}
	return s
}

// Measured writes an event's numbers: "120/240 steps, loss 0.412, 310
// samples/s, ETA 58s".
func Measured(e api.Event) string {
	var parts []string
	if p := e.Progress; p != nil {
		parts = append(parts, unitText(p.Done, p.Total, p.Unit))
	} else if e.Step != nil {
		parts = append(parts, "step "+format.Count(*e.Step))
	}
	number := func(name string, v *float64) {
		if v != nil {
			parts = append(parts, name+" "+format.Number(*v))
		}
	}
	number("epoch", e.Epoch)
	if e.Loss != nil {
		parts = append(parts, "loss "+format.Measure(*e.Loss))
	}
	if e.EvalLoss != nil {
		parts = append(parts, "validation loss "+format.Measure(*e.EvalLoss))
	}
	number("learning rate", e.LearningRate)
	number("gradient norm", e.GradNorm)
	if e.SamplesPerSec != nil {
		parts = append(parts, format.Number(round3(*e.SamplesPerSec))+" samples/s")
	}
	if e.TokensPerSec != nil {
		parts = append(parts, format.Number(round3(*e.TokensPerSec))+" tokens/s")
	}
	if e.Progress != nil && e.Progress.ETASeconds > 0 {
		parts = append(parts, "ETA "+format.Seconds(e.Progress.ETASeconds))
	}
	return strings.Join(parts, ", ")
}

// fieldText writes an event's own fields as key=value, in the order of keys.
func fieldText(raw json.RawMessage) string {
	var fields map[string]json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &fields) != nil {
		return ""
	}
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(fields)) {
		parts = append(parts, key+"="+string(fields[key]))
	}
	return strings.Join(parts, " ")
}

// errorText is a stage's error on one line, with its place.
func errorText(e api.StageError) string {
	s := e.Code + ": " + e.Message
	var place []string
	if e.File != "" && !strings.Contains(e.Message, e.File) {
		place = append(place, e.File)
	}
	if e.Row > 0 {
		place = append(place, fmt.Sprintf("row %d", e.Row))
	}
	if e.Column != "" {
		place = append(place, "column "+e.Column)
	}
	if e.Field != "" {
		place = append(place, "config "+e.Field)
	}
	if len(place) > 0 {
		s += " (" + strings.Join(place, ", ") + ")"
	}
	return s
}

// ErrorLines is a stage's error in full: what, where, what to do.
func ErrorLines(e api.StageError, width int, style format.Style) []string {
	out := strings.Split(format.Indent("", format.Clean(errorText(e)), width), "\n")
	for i := range out {
		out[i] = style.Bad(out[i])
	}
	if e.Hint != "" {
		out = append(out, strings.Split(format.Indent("hint: ", format.Clean(e.Hint), width), "\n")...)
	}
	return out
}
