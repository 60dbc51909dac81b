package format

import (
	"fmt"
	"time"
)

// Duration writes how long something took: 37ms, 0.4s, 42s, 3m05s, 2h10m, 3d04h.
func Duration(d time.Duration) string {
	if d <= 0 {
		return "0s"
	}
	if d < 95*time.Millisecond {
		return fmt.Sprintf("%dms", max(d/time.Millisecond, 1))
	}
	if d < 9950*time.Millisecond {
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
	d = d.Round(time.Second)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	const day = 24 * time.Hour
	return fmt.Sprintf("%dd%02dh", d/day, d%day/time.Hour)
}

// Seconds is Duration for a number of seconds.
func Seconds(s float64) string {
	const most = 1e9 // 31 years; beyond it a Duration would overflow in time
	return Duration(time.Duration(min(max(s, 0), most) * float64(time.Second)))
}

// Age writes how long ago t was, in one unit: 5s, 3m, 4h, 12d.
func Age(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := max(now.Sub(t), 0)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", d/time.Hour)
	}
	return fmt.Sprintf("%dd", d/(24*time.Hour))
}

// Span is the time from start to end, or to now while it has no end, and "-"
// before its start.
func Span(start, end *time.Time, now time.Time) string {
	if start == nil {
		return "-"
	}
	if end != nil {
		now = *end
	}
	return Duration(now.Sub(*start))
}
