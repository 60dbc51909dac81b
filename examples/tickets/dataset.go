package tickets

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
)

// Header is the CSV file's first line.
var Header = []string{"ticket_id", "created_at", "customer", "channel", "subject", "body", "category"}

// Seed and Rows make examples/support-tickets.csv.
const (
	Seed = 20260302
	Rows = 1600 // clean ones; with duplicates the file has about 1,670
)

// Dataset makes n tickets and spoils some of them as real files are spoilt:
// duplicates, missing values, whitespace, label spellings, wrong labels.
func Dataset(seed uint64, n int) []Ticket {
	g := NewGenerator(seed)
	r := rand.New(rand.NewPCG(seed, 0x64697274))
	var rows []Ticket
	for range n {
		t := g.Next()
		if len(rows) > 50 && chance(r, 0.04) {
			rows = append(rows, repeat(r, rows[r.IntN(len(rows))], g))
		}
		rows = append(rows, spoil(r, t))
	}
	return rows
}

// repeat is a ticket that somebody sent a second time.
func repeat(r *rand.Rand, old Ticket, g *Generator) Ticket {
	again := g.Next()
	again.Customer, again.Subject, again.Body, again.Category = old.Customer, old.Subject, old.Body, old.Category
	switch {
	case chance(r, 0.3):
		again.Body = "  " + strings.ReplaceAll(old.Body, ". ", ".  ")
	case chance(r, 0.2):
		again.Body = strings.ToUpper(old.Body)
	}
	if chance(r, 0.05) { // filed under another category than the first time
		again.Category = pick(r, Categories())
	}
	return again
}

func spoil(r *rand.Rand, t Ticket) Ticket {
	switch {
	case chance(r, 0.012):
		t.Body = pick(r, []string{"", "", "   ", "\n"})
	case chance(r, 0.010):
		t.Category = pick(r, []string{"", "", " "})
	case chance(r, 0.03):
		t.Body = pick(r, []string{" ", "\t", "\n"}) + t.Body + pick(r, []string{"  ", "\n", "\t "})
	case chance(r, 0.02):
		t.Body = strings.ReplaceAll(t.Body, " ", "  ")
	}
	if chance(r, 0.04) && strings.TrimSpace(t.Category) != "" {
		c := t.Category
		t.Category = pick(r, []string{c + " ", " " + c, strings.ToUpper(c), upperFirst(c), upperFirst(c), strings.ReplaceAll(c, " ", "_"), strings.ReplaceAll(c, "-", " ")})
	}
	return t
}

// WriteCSV writes tickets as RFC 4180 has it, with a header.
func WriteCSV(w io.Writer, rows []Ticket) error { return WriteRows(w, rows, true) }

// WriteRows writes a part of a CSV file, with the header if it is the first.
func WriteRows(w io.Writer, rows []Ticket, header bool) error {
	c := csv.NewWriter(w)
	if header {
		if err := c.Write(Header); err != nil {
			return fmt.Errorf("tickets: %w", err)
		}
	}
	for _, t := range rows {
		if err := c.Write([]string{t.ID, t.CreatedAt, t.Customer, t.Channel, t.Subject, t.Body, t.Category}); err != nil {
			return fmt.Errorf("tickets: %w", err)
		}
	}
	c.Flush()
	return c.Error()
}

// WriteCorpus writes n lines of text without labels, subject and body of a
// ticket in a line, to pretrain on. With another seed than the data set's the
// tickets are others, though of the same fragments: a model pretrained on them
// knows the language of the tickets and not their categories.
func WriteCorpus(w io.Writer, seed uint64, n int) error {
	g := NewGenerator(seed)
	b := bufio.NewWriter(w)
	for range n {
		t := g.Next()
		line := strings.Join(strings.Fields(t.Body), " ")
		if g.r.IntN(2) == 0 {
			line = t.Subject + ". " + line
		}
		if _, err := b.WriteString(line + "\n"); err != nil {
			return fmt.Errorf("tickets: %w", err)
		}
	}
	return b.Flush()
}
