package pii

import "strings"

// Kind is a kind of personal data.
type Kind uint8

// Kinds, and how many there are.
const (
	Email Kind = iota
	Phone
	SSN
	Card
	Kinds
)

// String is the kind's name in reports.
func (k Kind) String() string { return [...]string{"email", "phone", "ssn", "credit_card"}[k] }

// Placeholder stands in a text for what was there.
func (k Kind) Placeholder() string {
	return [...]string{"[EMAIL]", "[PHONE]", "[SSN]", "[CREDIT_CARD]"}[k]
}

// Match is a place in a text, as half-open byte offsets.
type Match struct {
	Kind       Kind
	Start, End int
}

// Counts holds the number of matches by kind.
type Counts [Kinds]int64

// Add sums counts.
func (c *Counts) Add(other Counts) {
	for k, n := range other {
		c[k] += n
	}
}

// Total is the number of matches of all kinds.
func (c Counts) Total() int64 {
	var n int64
	for _, v := range c {
		n += v
	}
	return n
}

// Map gives the counts that are not zero by the kinds' names.
func (c Counts) Map() map[string]int64 {
	m := map[string]int64{}
	for k, n := range c {
		if n > 0 {
			m[Kind(k).String()] = n
		}
	}
	return m
}

// Find appends the matches in text to found, from left to right and without
// overlap.
func Find(found []Match, text string) []Match {
	at, digits := false, 0
	for i := 0; i < len(text); i++ {
		if c := text[i]; c == '@' {
			at = true
		} else if isDigit(c) {
			digits++
		}
	}
	if !at && digits < 8 {
		return found
	}
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c == '@' && at:
			from := 0
			if n := len(found); n > 0 {
				from = found[n-1].End
			}
			if m, ok := emailAround(text, from, i); ok {
				// The local part may hold digits that looked like a number.
				for len(found) > 0 && found[len(found)-1].End > m.Start {
					found = found[:len(found)-1]
				}
				found = append(found, m)
				i = m.End
				continue
			}
		case isDigit(c) || c == '+' || c == '(':
			if m, ok := numberAt(text, i); ok {
				found = append(found, m)
				i = m.End
				continue
			}
			if isDigit(c) { // this run is no number's start
				for i < len(text) && isDigit(text[i]) {
					i++
				}
				continue
			}
		}
		i++
	}
	return found
}

// Redact replaces what Find finds by placeholders and counts it.
func Redact(text string, counts *Counts) string {
	var space [8]Match
	found := Find(space[:0], text)
	if len(found) == 0 {
		return text
	}
	var b strings.Builder
	b.Grow(len(text) + 8*len(found))
	at := 0
	for _, m := range found {
		b.WriteString(text[at:m.Start])
		b.WriteString(m.Kind.Placeholder())
		at = m.End
		counts[m.Kind]++
	}
	b.WriteString(text[at:])
	return b.String()
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
