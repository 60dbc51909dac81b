package pii

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// emailAround finds the address around the @ at i, not beginning before from:
// a dot-atom of RFC 5322 as people use it, letters of European scripts included,
// before a domain whose last label is of letters.
func emailAround(text string, from, i int) (Match, bool) {
	start := i
	for start > from {
		r, size := utf8.DecodeLastRuneInString(text[from:start])
		if !isLocal(r) {
			break
		}
		start -= size
	}
	for start < i && (text[start] == '.' || text[start] == '-' || text[start] == '\'') {
		start++
	}
	if start == i || text[i-1] == '.' {
		return Match{}, false
	}
	end := i + 1
	for end < len(text) {
		r, size := utf8.DecodeRuneInString(text[end:])
		if !isDomain(r) {
			break
		}
		end += size
	}
	domain := strings.TrimRight(text[i+1:end], ".-")
	// "mail a@example.org.Then go": cut behind a label that cannot be a top domain.
	dot := strings.LastIndexByte(domain, '.')
	if dot <= 0 || strings.Contains(domain, "..") || domain[0] == '-' {
		return Match{}, false
	}
	last := domain[dot+1:]
	if utf8.RuneCountInString(last) < 2 || strings.ContainsAny(last, "0123456789") && !strings.HasPrefix(strings.ToLower(last), "xn--") {
		return Match{}, false
	}
	return Match{Email, start, i + 1 + len(domain)}, true
}

func isLocal(r rune) bool {
	if r < utf8.RuneSelf {
		return isLetter(byte(r)) || isDigit(byte(r)) || strings.ContainsRune("._%+-'#&", r)
	}
	return european(r)
}

func isDomain(r rune) bool {
	if r < utf8.RuneSelf {
		return isLetter(byte(r)) || isDigit(byte(r)) || r == '.' || r == '-'
	}
	return european(r)
}

// european are letters of scripts that put spaces between words; in others the
// words around an address would be taken for a part of it.
func european(r rune) bool { return unicode.In(r, unicode.Latin, unicode.Greek, unicode.Cyrillic) }
