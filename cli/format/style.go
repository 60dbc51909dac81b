package format

import "strings"

// Style colours text, or leaves it as it is: the zero value writes no escape
// sequence.
type Style struct{ On bool }

func (s Style) paint(code, text string) string {
	if !s.On || text == "" {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

// Colours by their meaning rather than their hue.
func (s Style) Bold(t string) string  { return s.paint("1", t) }
func (s Style) Faint(t string) string { return s.paint("2", t) }
func (s Style) Good(t string) string  { return s.paint("32", t) }
func (s Style) Bad(t string) string   { return s.paint("31", t) }
func (s Style) Warn(t string) string  { return s.paint("33", t) }
func (s Style) Busy(t string) string  { return s.paint("36", t) }

// State colours the name of a state, of whatever it is one; pad may hold
// spaces around it.
func (s Style) State(text string) string {
	switch strings.TrimSpace(text) {
	case "succeeded", "alive", "skipped":
		return s.Good(text)
	case "failed", "lost", "disconnected":
		return s.Bad(text)
	case "running", "placed":
		return s.Busy(text)
	case "cancelled", "unknown", "drain", "draining":
		return s.Warn(text)
	}
	return text
}
