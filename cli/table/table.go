package table

import (
	"fmt"
	"io"
	"strings"

	"github.com/tunemesh/tunemesh/cli/format"
)

// DefaultWidth is the width where no terminal says another one.
const DefaultWidth = 100

const gap = "  "

// Column describes one column.
type Column struct {
	Title string
	// Right aligns to the right: numbers, sizes, durations.
	Right bool
	// Shrink lets the column give way, down to this many cells, when the table
	// is wider than it may be. 0: it keeps its width.
	Shrink int
	// Keep lets the columns without it give way first.
	Keep bool
	// Middle cuts cells in the middle: paths.
	Middle bool
	// Paint colours a cell after it was padded.
	Paint func(string) string
}

// Table collects rows of cells.
type Table struct {
	Columns []Column
	rows    [][]string
}

// Row adds a row. Cells are cleaned of control characters; an empty one is
// written as "-".
func (t *Table) Row(cells ...string) {
	row := make([]string, len(t.Columns))
	for i := range row {
		row[i] = "-"
		if i < len(cells) && cells[i] != "" {
			row[i] = format.Clean(cells[i])
		}
	}
	t.rows = append(t.rows, row)
}

// Write prints the title line and the rows, each at most width cells wide as
// far as the columns can shrink.
func (t *Table) Write(w io.Writer, width int, style format.Style) error {
	widths := t.widths(width)
	titles := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		titles[i] = c.Title
	}
	if _, err := fmt.Fprintln(w, style.Faint(t.line(titles, widths, false))); err != nil {
		return err
	}
	for _, row := range t.rows {
		if _, err := fmt.Fprintln(w, t.line(row, widths, true)); err != nil {
			return err
		}
	}
	return nil
}

func (t *Table) line(cells []string, widths []int, paint bool) string {
	out := make([]string, len(cells))
	for i, c := range t.Columns {
		cell := cells[i]
		if c.Middle {
			cell = format.CutMiddle(cell, widths[i])
		}
		switch {
		case c.Right:
			out[i] = format.FitRight(cell, widths[i])
		case i == len(cells)-1:
			out[i] = format.Cut(cell, widths[i]) // no spaces at the end of a line
		default:
			out[i] = format.Fit(cell, widths[i])
		}
		if paint && c.Paint != nil {
			out[i] = c.Paint(out[i])
		}
	}
	return strings.TrimRight(strings.Join(out, gap), " ")
}

// widths gives each column what its widest cell needs, then takes from the
// widest shrinkable column until the table fits.
func (t *Table) widths(most int) []int {
	widths := make([]int, len(t.Columns))
	total := len(gap) * (len(t.Columns) - 1)
	for i, c := range t.Columns {
		widths[i] = format.Width(c.Title)
		for _, row := range t.rows {
			widths[i] = max(widths[i], format.Width(row[i]))
		}
		total += widths[i]
	}
	for total > most {
		widest := -1
		for _, keep := range []bool{false, true} {
			for i, c := range t.Columns {
				if c.Keep == keep && c.Shrink > 0 && widths[i] > c.Shrink && (widest < 0 || widths[i] > widths[widest]) {
					widest = i
				}
			}
			if widest >= 0 {
				break
			}
		}
		if widest < 0 {
			break
		}
		widths[widest]--
		total--
	}
	return widths
}
