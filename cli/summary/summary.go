package summary

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
)

// Options says how the summary is written; the zero value is 100 columns
// without colour.
type Options struct {
	Width int
	Style format.Style
}

// Print writes the summary of a job to w, 100 columns wide and without colour.
// artifacts is what Artifacts of the client returned; nil takes what the stages
// name.
func Print(w io.Writer, job api.JobDetail, artifacts []api.StageArtifact) error {
	return Write(w, job, artifacts, Options{})
}

// Write is Print with a choice of width and colour.
func Write(w io.Writer, job api.JobDetail, artifacts []api.StageArtifact, o Options) error {
	if o.Width <= 0 {
		o.Width = table.DefaultWidth
	}
	p := &printer{w: w, o: o}
	p.headline(job)
	p.data(job)
	p.training(job)
	p.metrics(job)
	p.answers(job)
	p.artifacts(job, artifacts)
	p.times(job)
	return p.err
}

// printer keeps the first error, so that the sections read straight on.
type printer struct {
	w   io.Writer
	o   Options
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) title(text string) { p.line("\n%s", p.o.Style.Bold(text)) }

// table prints a table indented by two spaces.
func (p *printer) table(t *table.Table) {
	if p.err != nil {
		return
	}
	var b strings.Builder
	if p.err = t.Write(&b, p.o.Width-2, p.o.Style); p.err != nil {
		return
	}
	for line := range strings.Lines(b.String()) {
		p.line("  %s", strings.TrimRight(line, "\n"))
	}
}

func (p *printer) headline(job api.JobDetail) {
	name := ""
	if job.Name != "" {
		name = " (" + format.Clean(job.Name) + ")"
	}
	took := ""
	if job.StartedAt != nil && job.FinishedAt != nil {
		took = " in " + format.Duration(job.FinishedAt.Sub(*job.StartedAt))
	}
	p.line("%s", format.Indent("", "Job "+job.ID+name+" "+p.o.Style.State(string(job.State))+took, p.o.Width))
	if job.Reason != "" {
		p.line("%s", format.Indent("", format.Clean(job.Reason), p.o.Width))
	}
}

func (p *printer) data(job api.JobDetail) {
	var d preprocessing
	if !find(job, "preprocessing", &d) || d.Rows == 0 {
		return
	}
	text := fmt.Sprintf("%s rows: %s to train, %s to validate, %s held out for the test", format.Count(d.Rows), format.Count(d.Train), format.Count(d.Validation), format.Count(d.Test))
	if s := counts(d.Dropped); s != "" {
		text += "; left out: " + s
	}
	if s := counts(d.Redacted); s != "" {
		text += "; redacted: " + s
	}
	p.line("%s", format.Indent("Data: ", text, p.o.Width))
}

// training prints the numbers that the training stage puts under "training",
// whichever they are.
func (p *printer) training(job api.JobDetail) {
	var t scores
	if !find(job, "training", &t) || len(t) == 0 {
		return
	}
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(t)) {
		parts = append(parts, strings.ReplaceAll(format.Clean(name), "_", " ")+" "+format.Number(t[name]))
	}
	p.line("%s", format.Indent("Training: ", strings.Join(parts, ", "), p.o.Width))
}

// counts writes {"duplicate": 12, "missing": 3} as "12 duplicate, 3 missing".
func counts(of map[string]int64) string {
	var parts []string
	for _, name := range slices.Sorted(maps.Keys(of)) {
		if of[name] > 0 {
			parts = append(parts, format.Count(of[name])+" "+strings.ReplaceAll(format.Clean(name), "_", " "))
		}
	}
	return strings.Join(parts, ", ")
}

func (p *printer) answers(job api.JobDetail) {
	var e evaluation
	if !find(job, "evaluation", &e) || len(e.Answers) == 0 {
		return
	}
	p.title("Sample answers, before and after")
	for i, a := range e.Answers {
		if i > 0 {
			p.line("")
		}
		p.answer("input", a.Input, "")
		p.answer("expected", a.Target, "")
		p.answer("base", a.Base, p.mark(a.Base, a.Target))
		p.answer("tuned", a.Tuned, p.mark(a.Tuned, a.Target))
	}
}

func (p *printer) mark(got, want string) string {
	if strings.EqualFold(strings.TrimSpace(got), strings.TrimSpace(want)) {
		return p.o.Style.Good("  ✓")
	}
	return ""
}

// answer prints one line of a sample; a text is cut after three lines.
func (p *printer) answer(label, text, mark string) {
	const most = 3
	text = strings.TrimSpace(format.Clean(text))
	if text == "" {
		text = p.o.Style.Faint("(nothing)")
	}
	room := p.o.Width - 16
	lines := format.Wrap(text, room)
	if len(lines) > most {
		lines = lines[:most]
		lines[most-1] = format.Cut(lines[most-1], room-2) + " …"
	}
	for i, line := range lines {
		if i > 0 {
			label = ""
		}
		if i == len(lines)-1 {
			line += mark
		}
		p.line("  %s  %s", p.o.Style.Faint(format.Fit(label, 8)), line)
	}
}

func (p *printer) times(job api.JobDetail) {
	if len(job.Stages) == 0 {
		return
	}
	longest := time.Duration(1)
	for _, s := range job.Stages {
		longest = max(longest, took(s))
	}
	p.title("Time")
	width := 0
	for _, s := range job.Stages {
		width = max(width, format.Width(s.Name))
	}
	for _, s := range job.Stages {
		text := format.Duration(took(s))
		if s.StartedAt == nil || s.FinishedAt == nil {
			text = "-"
		}
		line := fmt.Sprintf("  %s  %s  %s", format.Fit(s.Name, width), format.FitRight(text, 7), strings.Repeat("█", int(20*took(s)/longest)))
		if s.State != api.StageSucceeded {
			line += "  " + p.o.Style.State(string(s.State))
		}
		if s.Attempt > 1 {
			line += fmt.Sprintf("  %d attempts", s.Attempt)
		}
		p.line("%s", strings.TrimRight(line, " "))
	}
}

func took(s api.Stage) time.Duration {
	if s.StartedAt == nil || s.FinishedAt == nil {
		return 0
	}
	return max(s.FinishedAt.Sub(*s.StartedAt), 0)
}
