package view

import (
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
)

// Plain turns a job's events into lines for a pipe or a log file: one per
// change of state, warning and error, and the numbers of each stage now and
// then. The time of the events decides, so that a replay gives the same lines.
type Plain struct {
	// Every is the least time between two lines of numbers of one stage.
	Every time.Duration
	// Width is that of the lines in cells; longer texts are wrapped.
	Width int
	// Where is the location of the times shown.
	Where *time.Location

	shown   map[string]time.Time
	held    map[string]api.Event // numbers not shown yet
	reasons map[string]string
}

// Event returns the lines that an event makes, often none.
func (p *Plain) Event(e api.Event) []string {
	switch e.Level {
	case api.LevelMetric:
		return p.metric(e)
	case api.LevelState, api.LevelWarn, api.LevelError:
		return append(p.flush(e.Stage), p.lines(e)...)
	}
	return nil
}

// lines leaves an event's own fields out: the log of the job has them.
func (p *Plain) lines(e api.Event) []string {
	return LogLines(e, format.Style{}, p.Where, p.Width, false)
}

func (p *Plain) metric(e api.Event) []string {
	if p.shown == nil {
		p.shown, p.held = map[string]time.Time{}, map[string]api.Event{}
	}
	if Measured(e) == "" {
		return nil
	}
	if last, ok := p.shown[e.Stage]; ok && e.Timestamp.Sub(last) < p.Every {
		p.held[e.Stage] = e
		return nil
	}
	p.shown[e.Stage] = e.Timestamp
	delete(p.held, e.Stage)
	return p.lines(e)
}

// flush gives the newest numbers of a stage before something else is said of it,
// so that the last ones are never missing.
func (p *Plain) flush(stage string) []string {
	e, ok := p.held[stage]
	if !ok {
		return nil
	}
	delete(p.held, stage)
	return p.lines(e)
}

// Waits returns a line for each stage whose reason for waiting is new.
func (p *Plain) Waits(job api.JobDetail, now time.Time) []string {
	if p.reasons == nil {
		p.reasons = map[string]string{}
	}
	var out []string
	for _, stage := range job.Stages {
		reason := ""
		if stage.State == api.StageReady {
			reason = stage.WaitReason
		}
		if reason != "" && reason != p.reasons[stage.Name] {
			out = append(out, p.lines(api.Event{Timestamp: now, Level: "WAIT", Stage: stage.Name, Message: reason})...)
		}
		p.reasons[stage.Name] = reason
	}
	return out
}
