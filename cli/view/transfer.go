package view

import (
	"strings"
	"time"

	"github.com/tunemesh/tunemesh/cli/format"
)

// Transfer is an upload or a download under way.
type Transfer struct {
	Name    string
	Done    int64 // bytes
	Total   int64 // bytes; -1: not known
	Elapsed time.Duration
}

// Line draws the transfer in at most width cells: name, bar, bytes, rate, time
// to go.
func (t Transfer) Line(width int, style format.Style) string {
	bytes := format.Bytes(t.Done)
	if t.Total > 0 {
		bytes += " of " + format.Bytes(t.Total)
	}
	parts := []string{bytes}
	if t.Elapsed >= 500*time.Millisecond && t.Done > 0 {
		rate := float64(t.Done) / t.Elapsed.Seconds()
		parts = append(parts, format.Bytes(int64(rate))+"/s")
		if left := t.Total - t.Done; t.Total > 0 && left > 0 {
			parts = append(parts, "ETA "+format.Seconds(float64(left)/rate))
		} else {
			parts = append(parts, format.Duration(t.Elapsed))
		}
	}
	text := strings.Join(parts, "  ")
	name := format.Cut(format.Clean(t.Name), max(width/3, 10))
	if room := width - format.Width(name) - format.Width(text) - 4; t.Total > 0 && room >= 6 {
		return name + "  " + style.Busy(bar(t.Done, t.Total, min(room, 30))) + "  " + text
	}
	return format.Cut(name+"  "+text, width)
}
