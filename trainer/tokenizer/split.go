package tokenizer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/dlclark/regexp2"
)

// matchFinder lists the matches of a pattern in s as byte offsets, ascending and
// without overlap; none is empty.
type matchFinder interface {
	find(s string) [][2]int
}

// parsePattern reads {"String": "..."} or {"Regex": "..."}.
func parsePattern(raw json.RawMessage) (matchFinder, error) {
	var p struct {
		String *string `json:"String"`
		Regex  *string `json:"Regex"`
	}
	if isNull(raw) {
		return nil, errors.New("no pattern")
	}
	if err := readPart(raw, &p); err != nil {
		return nil, fmt.Errorf("pattern: %w", err)
	}
	switch {
	case p.String != nil && *p.String != "":
		return literal(*p.String), nil
	case p.Regex != nil:
		return compileRegex(*p.Regex)
	}
	return nil, fmt.Errorf("pattern %.80s is neither a String nor a Regex", raw)
}

type literal string

func (l literal) find(s string) [][2]int {
	var out [][2]int
	for at := 0; ; {
		i := strings.Index(s[at:], string(l))
		if i < 0 {
			return out
		}
		out = append(out, [2]int{at + i, at + i + len(l)})
		at += i + len(l)
	}
}

// regex is a pattern with look-around, which Go's own regexp has not. The original
// uses Oniguruma in Ruby's syntax, where ^ and $ match at every line.
type regex struct{ re *regexp2.Regexp }

func compileRegex(expr string) (matchFinder, error) {
	if c := cutters[expr]; c != nil {
		return c, nil
	}
	if f := finders[expr]; f != nil {
		return f, nil
	}
	re, err := regexp2.Compile(expr, regexp2.Multiline)
	if err != nil {
		return nil, fmt.Errorf("regular expression: %w", err)
	}
	return regex{re}, nil
}

func (r regex) find(s string) [][2]int {
	runes := []rune(s)
	var out [][2]int
	byteAt, runeAt := 0, 0 // regexp2 counts runes, we count bytes
	offset := func(rune int) int {
		for ; runeAt < rune; runeAt++ {
			byteAt += utf8.RuneLen(runes[runeAt])
		}
		return byteAt
	}
	m, err := r.re.FindRunesMatch(runes)
	for ; m != nil && err == nil; m, err = r.re.FindNextMatch(m) {
		if m.Length > 0 {
			begin := offset(m.Index)
			out = append(out, [2]int{begin, offset(m.Index + m.Length)})
		}
	}
	// The one error is a time-out, and none is set.
	return out
}

// runeClass matches single runes.
type runeClass func(rune) bool

func (c runeClass) find(s string) [][2]int {
	var out [][2]int
	for i, r := range s {
		if c(r) {
			out = append(out, [2]int{i, i + utf8.RuneLen(r)})
		}
	}
	return out
}

// behavior says what becomes of a delimiter when a text is split at it; names and
// meaning as in SplitDelimiterBehavior of the original's normalizer.rs.
type behavior string

const (
	removed            behavior = "Removed"
	isolated           behavior = "Isolated"
	mergedWithPrevious behavior = "MergedWithPrevious"
	mergedWithNext     behavior = "MergedWithNext"
	contiguous         behavior = "Contiguous"
)

func (b behavior) check() error {
	switch b {
	case removed, isolated, mergedWithPrevious, mergedWithNext, contiguous:
		return nil
	}
	return fmt.Errorf("unknown split behavior %q", string(b))
}

type section struct {
	begin, end int
	match      bool
}

// splitBy cuts s at the matches of p; with invert, at what p does not match.
// Empty pieces are left out.
func splitBy(s string, p matchFinder, b behavior, invert bool) [][2]int {
	var parts []section
	at := 0
	for _, m := range p.find(s) {
		if at < m[0] {
			parts = append(parts, section{at, m[0], invert})
		}
		parts = append(parts, section{m[0], m[1], !invert})
		at = m[1]
	}
	if at < len(s) {
		parts = append(parts, section{at, len(s), invert})
	}
	out := make([][2]int, 0, len(parts))
	switch b {
	case removed:
		for _, p := range parts {
			if !p.match {
				out = append(out, [2]int{p.begin, p.end})
			}
		}
	case isolated:
		for _, p := range parts {
			out = append(out, [2]int{p.begin, p.end})
		}
	case contiguous:
		for i, p := range parts {
			if i > 0 && p.match == parts[i-1].match {
				out[len(out)-1][1] = p.end
			} else {
				out = append(out, [2]int{p.begin, p.end})
			}
		}
	case mergedWithPrevious:
		for i, p := range parts {
			if p.match && i > 0 && !parts[i-1].match {
				out[len(out)-1][1] = p.end
			} else {
				out = append(out, [2]int{p.begin, p.end})
			}
		}
	case mergedWithNext:
		for i, p := range parts {
			if i > 0 && !p.match && parts[i-1].match {
				out[len(out)-1][1] = p.end
			} else {
				out = append(out, [2]int{p.begin, p.end})
			}
		}
	}
	return out
}
