package format

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/charmbracelet/x/ansi"
)

// Clean makes text that somebody else wrote safe to print on one line: line
// breaks and tabs become spaces, every other control character and broken
// UTF-8 a replacement character, so that a log line or a file name cannot
// steer the terminal. Characters that are not seen are left out, but for the
// joiners that some scripts and emoji need.
func Clean(s string) string {
	first := true
	return strings.Map(func(r rune) rune {
		if unicode.Is(unicode.Cf, r) && !isJoiner(r) && !isBidi(r) {
			return -1 // what follows may still be the first to be seen
		}
		start := first
		first = false
		switch {
		case start && (unicode.Is(unicode.M, r) || isJoiner(r) || joinsBefore(r)):
			return '\uFFFD' // it would join with what stands before the text
		case r == '\n' || r == '\t' || r == '\r' || r == '\u2028' || r == '\u2029':
			return ' '
		case r == utf8.RuneError || unicode.IsControl(r) || isBidi(r):
			return '\uFFFD'
		}
		return r
	}, s)
}

// joinsBefore is true of what makes one cluster with a space before it: skin
// tones, the sound marks of half-width katakana.
func joinsBefore(r rune) bool {
	return r > unicode.MaxASCII && Width(" "+string(r)) < 1+Width(string(r))
}

func isJoiner(r rune) bool { return r == '\u200C' || r == '\u200D' }

// isBidi is true of the characters that turn the direction of what follows.
func isBidi(r rune) bool {
	return (r >= '\u202A' && r <= '\u202E') || (r >= '\u2066' && r <= '\u2069')
}

// Width is the number of terminal cells that s takes, colours not counted.
func Width(s string) int { return ansi.StringWidth(s) }

// Cut shortens s to width cells, with an ellipsis where something is missing.
func Cut(s string, width int) string {
	// The library counts a cluster with a variation selector one cell short where
	// it cuts, so its answer is measured.
	for w := width; w > 0; w-- {
		if out := ansi.Truncate(s, w, "…"); Width(out) <= width {
			return out
		}
	}
	return ""
}

// CutMiddle shortens s to width cells by its middle: of a path, both the start
// and the file's name say something.
func CutMiddle(s string, width int) string {
	total := Width(s)
	if total <= width || width < 3 {
		return Cut(s, width)
	}
	head := (width - 1) / 3
	// Cut once more: the halves of a cluster may be wider than the whole.
	return Cut(ansi.Truncate(s, head, "")+ansi.TruncateLeft(s, total-(width-1-head), "…"), width)
}

// Fit is Cut, filled up with spaces on the right to exactly width cells.
func Fit(s string, width int) string {
	return fit(s, width, func(s, spaces string) string { return s + spaces })
}

// FitRight is Fit with the spaces on the left.
func FitRight(s string, width int) string {
	return fit(s, width, func(s, spaces string) string { return spaces + s })
}

// fit measures what it made: a few characters join with a space beside them. In
// a text with one of those all but ASCII is replaced.
func fit(s string, width int, join func(s, spaces string) string) string {
	cut := Cut(s, width)
	out := join(cut, strings.Repeat(" ", max(width-Width(cut), 0)))
	if Width(out) == max(width, 0) {
		return out
	}
	plain := strings.Map(func(r rune) rune {
		if r > unicode.MaxASCII {
			return '?'
		}
		return r
	}, s)
	plain = Cut(plain, width)
	return join(plain, strings.Repeat(" ", max(width-Width(plain), 0)))
}

// unbroken stands for a hyphen while a text is wrapped: ansi.Wrap breaks after each, and
// a flag that is broken there cannot be copied. It is of a private use and a cell wide.
const unbroken = "\ue000"

// Wrap breaks s into lines of at most width cells, at spaces where it can.
func Wrap(s string, width int) []string {
	whole := s
	if !strings.Contains(s, unbroken) {
		whole = strings.ReplaceAll(s, "-", unbroken)
	}
	wrapped := ansi.Wrap(whole, max(width, 1), "")
	if whole != s {
		wrapped = strings.ReplaceAll(wrapped, unbroken, "-")
	}
	return strings.Split(wrapped, "\n")
}

// Indent wraps s to width cells with prefix before the first line and as many
// spaces before the others.
func Indent(prefix, s string, width int) string {
	lines := Wrap(s, width-Width(prefix))
	for i, line := range lines {
		line = strings.TrimRight(line, " ")
		if i == 0 {
			lines[i] = prefix + line
		} else {
			lines[i] = strings.Repeat(" ", Width(prefix)) + line
		}
	}
	return strings.Join(lines, "\n")
}
