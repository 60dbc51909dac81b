// Package bytealphabet is the printable spelling of bytes in which byte-level
// vocabularies are written: a bijection of the 256 bytes onto 256 characters that
// JSON and terminals show.
//
// Printable ASCII and Latin-1 stand for themselves, the other bytes in ascending
// order for U+0100, U+0101, ...: the space is "Ġ", the newline "Ċ". Source:
// bytes_to_unicode in github.com/openai/gpt-2, src/encoder.py.
package bytealphabet

import "strings"

func standsForItself(b int) bool {
	return b >= '!' && b <= '~' || b >= 0xa1 && b <= 0xac || b >= 0xae && b <= 0xff
}

// table holds both directions; it is computed once and never changes.
var table = func() (t struct {
	runes [256]rune
	bytes [256 + 68]int16 // by rune, -1 where no byte has it
}) {
	for i := range t.bytes {
		t.bytes[i] = -1
	}
	next := rune(256)
	for b := range 256 {
		r := rune(b)
		if !standsForItself(b) {
			r = next
			next++
		}
		t.runes[b] = r
		t.bytes[r] = int16(b)
	}
	return t
}()

// Rune is the character that stands for b.
func Rune(b byte) rune { return table.runes[b] }

// Byte is the byte for which r stands, if it stands for one.
func Byte(r rune) (byte, bool) {
	if r < 0 || int(r) >= len(table.bytes) || table.bytes[r] < 0 {
		return 0, false
	}
	return byte(table.bytes[r]), true
}

// Encode spells the bytes of s.
func Encode(s string) string {
	plain := true
	for i := 0; i < len(s) && plain; i++ {
		plain = s[i] >= '!' && s[i] <= '~'
	}
	if plain {
		return s
	}
	var b strings.Builder
	b.Grow(2 * len(s))
	for i := range len(s) {
		b.WriteRune(table.runes[s[i]])
	}
	return b.String()
}

// Decode gives the bytes that s spells; ok is false if a character stands for none.
func Decode(s string) (bytes string, ok bool) {
	b := make([]byte, 0, len(s))
	for _, r := range s {
		c, ok := Byte(r)
		if !ok {
			return "", false
		}
		b = append(b, c)
	}
	return string(b), true
}
