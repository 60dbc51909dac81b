package tokenizer

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/tunemesh/tunemesh/trainer/tokenizer/bytealphabet"
)

// gpt2Pattern is the expression with which GPT-2 cuts text into words
// (github.com/openai/gpt-2, src/encoder.py), and which ByteLevel uses.
const gpt2Pattern = `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`

// Words cuts s as the GPT-2 pattern does; the pieces joined are s.
func Words(s string) []string {
	var out []string
	for len(s) > 0 {
		n := gpt2Word(s)
		out = append(out, s[:n])
		s = s[n:]
	}
	return out
}

const (
	classSpace = iota
	classLetter
	classNumber
	classOther
)

func classOf(r rune) int {
	if r < utf8.RuneSelf {
		return int(asciiClasses[r])
	}
	switch {
	case unicode.IsSpace(r):
		return classSpace
	case unicode.IsLetter(r):
		return classLetter
	case unicode.IsNumber(r):
		return classNumber
	}
	return classOther
}

// asciiClasses are the classes of the first 128 characters.
var asciiClasses = func() (out [utf8.RuneSelf]uint8) {
	for r := range rune(utf8.RuneSelf) {
		switch {
		case unicode.IsSpace(r):
			out[r] = classSpace
		case unicode.IsLetter(r):
			out[r] = classLetter
		case unicode.IsNumber(r):
			out[r] = classNumber
		default:
			out[r] = classOther
		}
	}
	return out
}()

// gpt2Word is the length in bytes of the match at the beginning of s, which is not
// empty: every rune belongs to some match.
func gpt2Word(s string) int {
	if s[0] == '\'' && len(s) > 1 {
		switch s[1] {
		case 's', 't', 'm', 'd':
			return 2
		case 'r', 'v', 'l':
			if len(s) > 2 && (s[1:3] == "re" || s[1:3] == "ve" || s[1:3] == "ll") {
				return 3
			}
		}
	}
	at := 0
	if s[0] == ' ' {
		at = 1
	}
	r, n := utf8.DecodeRuneInString(s[at:])
	if n > 0 {
		if c := classOf(r); c != classSpace {
			return at + n + run(s[at+n:], c)
		}
	}
	// Whitespace. Its last rune is left to the word that follows, if one does.
	end, last := 0, 0
	for end < len(s) {
		r, n := utf8.DecodeRuneInString(s[end:])
		if !unicode.IsSpace(r) {
			if last > 0 {
				return last
			}
			return end
		}
		last, end = end, end+n
	}
	return end
}

// run is the length in bytes of the runes of class c at the beginning of s.
func run(s string, c int) int {
	for i, r := range s {
		if classOf(r) != c {
			return i
		}
	}
	return len(s)
}

func toPrintable(s string) string { return bytealphabet.Encode(s) }

// lossy decodes bytes as UTF-8; each maximal part of an ill-formed sequence becomes
// one U+FFFD (Unicode 3.9, "substitution of maximal subparts"), as in Rust's
// from_utf8_lossy. Go's conversions would give one for each byte.
func lossy(b string) string {
	if utf8.ValidString(b) {
		return b
	}
	var out strings.Builder
	for len(b) > 0 {
		r, n := utf8.DecodeRuneInString(b)
		if r != utf8.RuneError || n > 1 {
			out.WriteString(b[:n])
			b = b[n:]
			continue
		}
		out.WriteRune(utf8.RuneError)
		b = b[illFormed(b):]
	}
	return out.String()
}

// illFormed is the length of the maximal subpart at the beginning of b (Unicode
// table 3-7).
func illFormed(b string) int {
	lo, hi, need := byte(0x80), byte(0xbf), 0
	switch c := b[0]; {
	case c >= 0xc2 && c <= 0xdf:
		need = 1
	case c == 0xe0:
		lo, need = 0xa0, 2
	case c == 0xed:
		hi, need = 0x9f, 2
	case c >= 0xe1 && c <= 0xef:
		need = 2
	case c == 0xf0:
		lo, need = 0x90, 3
	case c == 0xf4:
		hi, need = 0x8f, 3
	case c >= 0xf1 && c <= 0xf3:
		need = 3
	}
	n := 1
	for n <= need && n < len(b) && b[n] >= lo && b[n] <= hi {
		lo, hi = 0x80, 0xbf
		n++
	}
	return n
}
