package clean

import (
	"crypto/sha256"
	"encoding/binary"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// NFC comes last in Line and Text: where a character is dropped, a letter may get
// a combining mark for its neighbour.

// Line gives text in Unicode form NFC (UAX #15), without control and invisible
// characters, every run of white space as one space, none at the ends.
func Line(text string) string {
	if isCleanLine(text) {
		return text
	}
	return norm.NFC.String(collapse(text, false))
}

// Text is Line for text whose line breaks mean something: they are kept as LF, at
// most two in a row, and so is the indentation of a line.
func Text(text string) string {
	if isCleanLine(text) {
		return text
	}
	return norm.NFC.String(collapse(text, true))
}

// isCleanLine says quickly what holds for most ASCII cells: nothing to do.
func isCleanLine(text string) bool {
	space := true
	for i := 0; i < len(text); i++ {
		c := text[i]
		if c < ' ' || c >= 0x7F || c == ' ' && space {
			return false
		}
		space = c == ' '
	}
	return !space || text == ""
}

func collapse(text string, lines bool) string {
	b := make([]byte, 0, len(text))
	spaces, breaks := 0, 0 // that wait for something to stand behind them
	for _, r := range text {
		switch {
		case lines && r == '\n':
			spaces = 0
			breaks++
		case r == ' ' || r == '\t' || unicode.IsSpace(r):
			if r != '\r' || !lines {
				spaces++
			}
		case invisible(r):
		default:
			switch {
			case len(b) == 0:
			case breaks > 0:
				b = append(b, "\n\n"[:min(breaks, 2)]...)
				b = append(b, strings.Repeat(" ", spaces)...)
			case spaces > 0:
				b = append(b, ' ')
			}
			spaces, breaks = 0, 0
			b = utf8.AppendRune(b, r)
		}
	}
	return string(b)
}

// invisible are control characters and those that only trouble a comparison. The
// joiners stay: emoji and many scripts need them.
func invisible(r rune) bool {
	return unicode.IsControl(r) || r == '\uFEFF' || r == '\u200B' || r == '\u00AD' || r == '\u2060'
}

// Fold gives the form in which two texts are the same: Line in lower case.
func Fold(text string) string { return strings.ToLower(Line(text)) }

// LabelKey gives the form in which two spellings of a label are the same: Fold,
// with underscores and hyphens as spaces.
func LabelKey(label string) string {
	key := Fold(label)
	if strings.ContainsAny(key, "_-") {
		key = Line(strings.Map(func(r rune) rune {
			if r == '_' || r == '-' {
				return ' '
			}
			return r
		}, key))
	}
	return key
}

// missing are the words that stand for nothing in files of spreadsheets,
// databases and statistics programs. "none" and "na" are not among them: both are
// labels and answers that people give.
var missing = []string{"null", "nan", "n/a", "#n/a", "<na>"}

// Missing says whether a cleaned cell holds nothing. With words set, what programs
// write for nothing counts as well: right for labels, not for answers.
func Missing(cell string, words bool) bool {
	if cell == "" {
		return true
	}
	if words && len(cell) <= 4 {
		for _, m := range missing {
			if strings.EqualFold(cell, m) {
				return true
			}
		}
	}
	return false
}

// Sum is 128 bits of a SHA-256: among a billion different texts the chance that
// any two have the same is below 10^-20.
type Sum [16]byte

// Hash gives the sum of parts, each ended so that ("ab","c") and ("a","bc") differ.
func Hash(parts ...string) Sum {
	var space [512]byte
	b := space[:0]
	for _, p := range parts {
		b = append(b, p...)
		b = append(b, 0)
	}
	full := sha256.Sum256(b)
	return Sum(full[:16])
}

// Point maps a sum and a seed to a number that is spread evenly over all 64 bits
// (the finalizer of SplitMix64, Steele et al. 2014).
func (s Sum) Point(seed uint64) uint64 {
	x := binary.LittleEndian.Uint64(s[:8]) + (seed+1)*0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}
