package tickets

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Ticket is one row.
type Ticket struct {
	ID        string
	CreatedAt string // RFC 3339
	Customer  string
	Channel   string
	Subject   string
	Body      string
	Category  string
}

// Generator makes clean tickets, one after the other.
type Generator struct {
	r  *rand.Rand
	n  int
	at time.Time
}

// NewGenerator returns a generator whose tickets depend on the seed alone.
func NewGenerator(seed uint64) *Generator {
	return &Generator{r: rand.New(rand.NewPCG(seed, 0x7469636b657473)), at: time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)}
}

// Next makes the next ticket.
func (g *Generator) Next() Ticket {
	r := g.r
	g.n++
	g.at = g.at.Add(time.Duration(2+r.IntN(300)) * time.Minute)
	c := weighted(r)
	return Ticket{
		ID:        fmt.Sprintf("T-%06d", 20000+g.n),
		CreatedAt: g.at.Format(time.RFC3339),
		Customer:  pick(r, firstNames) + " " + pick(r, lastNames),
		Channel:   pick(r, []string{"email", "email", "web", "web", "chat", "phone"}),
		Subject:   upperFirst(expand(r, pick(r, c.subjects))),
		Body:      body(r, c),
		Category:  c.name,
	}
}

func weighted(r *rand.Rand) *category {
	total := 0
	for _, c := range categories {
		total += c.weight
	}
	n := r.IntN(total)
	for i := range categories {
		if n -= categories[i].weight; n < 0 {
			return &categories[i]
		}
	}
	panic("unreachable")
}

// body puts a ticket together: what it is about and what is wanted, between
// what any ticket may say.
func body(r *rand.Rand, c *category) string {
	var parts []string
	add := func(p float64, from []string) {
		if chance(r, p) {
			parts = append(parts, upperFirst(expand(r, pick(r, from))))
		}
	}
	add(0.45, openers)
	add(0.12, asides)
	if chance(r, 0.05) {
		add(1, c.german)
	} else {
		add(1, c.cores)
	}
	add(0.38, asides)
	add(0.5, c.asks)
	if chance(r, 0.07) {
		add(1, contacts)
	}
	add(0.35, closers)
	if chance(r, 0.05) {
		parts = append(parts, pick(r, emoji))
	}
	separator := " "
	if chance(r, 0.08) {
		separator = pick(r, []string{"\n", "\n\n", "\r\n"})
	}
	text := strings.Join(parts, separator)
	switch {
	case chance(r, 0.10):
		text = strings.ToLower(text)
	case chance(r, 0.02):
		text = strings.ToUpper(text)
	}
	// A typo in a mail address could make it somebody's: example.com is reserved,
	// its misspellings are not.
	for chance(r, 0.22) && !strings.Contains(text, "@") {
		text = typo(r, text)
	}
	return text
}

// typo damages one place as people do: two letters swapped, one lost or doubled.
func typo(r *rand.Rand, text string) string {
	letters := []rune(text)
	if len(letters) < 10 {
		return text
	}
	i := 1 + r.IntN(len(letters)-2)
	if !unicode.IsLetter(letters[i]) || !unicode.IsLetter(letters[i+1]) || !unicode.IsLetter(letters[i-1]) {
		return text
	}
	switch r.IntN(3) {
	case 0:
		letters[i], letters[i+1] = letters[i+1], letters[i]
	case 1:
		letters = append(letters[:i], letters[i+1:]...)
	case 2:
		letters = append(letters[:i+1], letters[i:]...)
	}
	return string(letters)
}

func upperFirst(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(first)) + s[size:]
}
