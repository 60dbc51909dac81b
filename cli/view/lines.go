package view

import (
	"fmt"
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/api"
	"github.com/tunemesh/tunemesh/cli/format"
)

// Frame says how and when the live view is drawn.
type Frame struct {
	Width int
	// Height is the most lines drawn; 0 for no limit.
	Height int
	Style  format.Style
	Now    time.Time // its location is that of the times shown
	// Tick counts the frames; it turns the glyph of what runs.
	Tick int
	// Hint is the last line while the job goes on.
	Hint string
}

// Lines draws the live view: at most Width cells wide, one line per stage.
func (s *State) Lines(f Frame) []string {
	f.Width = max(f.Width, 20)
	lines := []string{s.headline(f), ""}
	nameWidth := 0
	for _, stage := range s.Job.Stages {
		nameWidth = max(nameWidth, format.Width(stage.Name))
	}
	nameWidth = min(nameWidth, max(f.Width/4, 8))
	shown, before, after := window(s.Job.Stages, f.Height)
	if before > 0 {
		lines = append(lines, f.Style.Faint(fmt.Sprintf(" … %d above", before)))
	}
	for _, stage := range shown {
		lines = append(lines, s.stageLine(stage, nameWidth, f))
	}
	if after > 0 {
		lines = append(lines, f.Style.Faint(fmt.Sprintf(" … %d below", after)))
	}
	lines = append(lines, "")
	if losses := s.Losses(); len(losses) > 1 {
		lines = append(lines, lossLine(losses, f))
	}
	if loads := s.loadLines(f); f.Height <= 0 || len(lines)+len(loads)+2 <= f.Height {
		lines = append(lines, loads...)
	}
	if s.last != nil {
		lines = append(lines, format.Cut(logPrefix(*s.last, f.Style, f.Now.Location())+format.Clean(text(*s.last, false)), f.Width))
	}
	switch {
	case s.Trouble != "":
		lines = append(lines, f.Style.Warn(format.Cut(s.Trouble, f.Width)))
	case f.Hint != "" && !s.Job.State.Terminal():
		lines = append(lines, f.Style.Faint(format.Cut(f.Hint, f.Width)))
	}
	return lines
}

// window picks the stages around the first that has not ended, as many as fit
// into height lines; before and after count those left out.
func window(stages []api.Stage, height int) (shown []api.Stage, before, after int) {
	const others = 6 // lines of the view that are no stage
	if height <= 0 || len(stages)+others <= height {
		return stages, 0, 0
	}
	n := max(height-others-2, 1) // two lines say what is left out
	first := 0
	for first < len(stages)-1 && (stages[first].State.Done() || stages[first].State == api.StageCancelled) {
		first++
	}
	from := min(max(first-n/2, 0), len(stages)-n)
	return stages[from : from+n], from, len(stages) - from - n
}

func (s *State) headline(f Frame) string {
	left := "job " + f.Style.Bold(s.Job.ID)
	if s.Job.Name != "" {
		left += "  " + format.Clean(s.Job.Name)
	}
	right := f.Style.State(string(s.Job.State)) + "  " + format.Span(s.Job.StartedAt, s.Job.FinishedAt, f.Now)
	return spread(left, right, f.Width)
}

// spread puts right at the right edge; left gives way.
func spread(left, right string, width int) string {
	right = format.Cut(right, width)
	return format.Fit(left, max(width-format.Width(right)-2, 0)) + strings.Repeat(" ", min(2, max(width-format.Width(right), 0))) + right
}

func (s *State) stageLine(stage api.Stage, nameWidth int, f Frame) string {
	left := " " + glyph(stage.State, f) + " " + format.Fit(stage.Name, nameWidth)
	right := format.FitRight(format.Span(stage.StartedAt, stage.FinishedAt, f.Now), 6)
	if stage.StartedAt == nil {
		right = ""
	}
	room := f.Width - format.Width(left) - max(format.Width(right), 6) - 3
	middle := s.stageMiddle(stage, room, f)
	return strings.TrimRight(left+" "+format.Fit(middle, room)+"  "+right, " ")
}

// stageMiddle is what stands between a stage's name and its time.
func (s *State) stageMiddle(stage api.Stage, room int, f Frame) string {
	v := s.stages[stage.Name]
	switch stage.State {
	case api.StageRunning:
		if v == nil || v.progress == nil {
			where := "starts"
			if stage.Node != "" {
				where = "on " + stage.Node
			}
			return f.Style.Faint(format.Cut(tries(stage)+where, room))
		}
		return v.line(stage, room, f)
	case api.StageSucceeded:
		if v != nil && v.progress != nil && v.progress.Done > 0 {
			return f.Style.Faint(format.Cut(unitText(v.progress.Done, 0, v.progress.Unit), room))
		}
		return ""
	case api.StageSkipped:
		return f.Style.Faint("an equal result was there")
	case api.StageFailed:
		if stage.Error != nil {
			return f.Style.Bad(format.Cut(format.Clean(errorText(*stage.Error)), room))
		}
		return ""
	case api.StageCancelled:
		return ""
	}
	return f.Style.Faint(format.Cut(format.Clean(tries(stage)+Waiting(s.Job, stage, f.Now)), room))
}

// tries says which try it is, from the second on.
func tries(stage api.Stage) string {
	if stage.Tries == 0 {
		return ""
	}
	return fmt.Sprintf("try %d/%d, ", stage.Tries+1, max(stage.MaxAttempts, stage.Tries+1))
}

// line draws a running stage: bar, progress, loss, rate, time to go. What does
// not fit is left out from the end, the bar shrinks first.
func (v *stageView) line(stage api.Stage, room int, f Frame) string {
	p := v.progress
	facts := []string{unitText(p.Done, p.Total, p.Unit)}
	if stage.Tries > 0 {
		facts = append(facts, f.Style.Warn(strings.TrimSuffix(tries(stage), ", ")))
	}
	if v.loss != nil {
		facts = append(facts, "loss "+format.Measure(*v.loss))
	}
	if eta := v.eta(f.Now); eta > 0 {
		facts = append(facts, "ETA "+format.Duration(eta))
	}
	if v.rate != nil {
		facts = append(facts, format.Number(round3(*v.rate))+" samples/s")
	}
	const least, most = 6, 24
	text := strings.Join(facts, "  ")
	for len(facts) > 1 && format.Width(text)+least+2 > room {
		facts = facts[:len(facts)-1]
		text = strings.Join(facts, "  ")
	}
	width := min(room-format.Width(text)-2, most)
	if width < least || p.Total <= 0 {
		return format.Cut(text, room)
	}
	return f.Style.Busy(bar(p.Done, p.Total, width)) + "  " + text
}

// eta is the time to go by the stage's own estimate, less what went by since.
func (v *stageView) eta(now time.Time) time.Duration {
	if v.progress == nil || v.progress.ETASeconds <= 0 || v.progress.ETASeconds > 1e9 {
		return 0
	}
	eta := time.Duration(v.progress.ETASeconds * float64(time.Second))
	return max(eta-max(now.Sub(v.measured), 0), 0)
}

func unitText(done, total int64, unit string) string {
	unit = format.Clean(unit)
	if unit == "bytes" {
		if total > 0 {
			return format.Bytes(done) + " of " + format.Bytes(total)
		}
		return format.Bytes(done)
	}
	if total > 0 {
		return strings.TrimSpace(format.Count(done) + "/" + format.Count(total) + " " + unit)
	}
	return strings.TrimSpace(format.Count(done) + " " + unit)
}

func lossLine(losses []float64, f Frame) string {
	ends := fmt.Sprintf("%s -> %s", format.Measure(losses[0]), format.Measure(losses[len(losses)-1]))
	width := min(f.Width-len(" loss ")-format.Width(ends)-2, 60)
	return " loss " + f.Style.Busy(Sparkline(losses, width)) + "  " + ends
}

func glyph(state api.StageState, f Frame) string {
	switch state {
	case api.StageSucceeded:
		return f.Style.Good("✓")
	case api.StageSkipped:
		return f.Style.Good("»")
	case api.StageRunning:
		turning := []string{"◐", "◓", "◑", "◒"}
		return f.Style.Busy(turning[f.Tick%len(turning)])
	case api.StageFailed:
		return f.Style.Bad("✗")
	case api.StageCancelled:
		return f.Style.Warn("■")
	case api.StageReady:
		return f.Style.Warn("○")
	}
	return f.Style.Faint("·")
}

// round3 keeps rates from flickering: three digits are enough.
func round3(v float64) float64 {
	switch {
	case v >= 100:
		return float64(int64(v + 0.5))
	case v >= 10:
		return float64(int64(v*10+0.5)) / 10
	}
	return v
}
