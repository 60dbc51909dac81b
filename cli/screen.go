package cli

import (
	"encoding/json"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
)

// Screen is what is known of an output.
type Screen struct {
	// Terminal says that lines can be drawn again in place.
	Terminal bool
	// Width and Height are in cells; nothing wider is printed.
	Width, Height int
	Style         format.Style
}

// screenOf asks the operating system about w. Nothing is printed wider than a
// hundred columns, however wide the terminal: lines that long are hard to read.
func screenOf(w io.Writer, getenv func(string) string) Screen {
	s := Screen{Width: table.DefaultWidth, Height: 40}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || getenv("TERM") == "dumb" {
		return s
	}
	s.Terminal = true
	s.Style.On = getenv("NO_COLOR") == ""
	if width, height, err := term.GetSize(int(f.Fd())); err == nil && width > 0 && height > 0 {
		s.Width, s.Height = min(width, table.DefaultWidth), height
	}
	return s
}

// drawing redraws a block of lines in place.
type drawing struct {
	w     io.Writer
	lines int // drawn last
}

// ANSI sequences (ECMA-48 and the private modes of DEC's VT220).
const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	clearRight = "\x1b[K"
	clearBelow = "\x1b[J"
)

// draw replaces the block that was drawn last, in one write, so that it does
// not flicker.
func (d *drawing) draw(lines []string) error {
	var b strings.Builder
	b.WriteString(hideCursor)
	d.home(&b)
	for _, line := range lines {
		b.WriteString(line + clearRight + "\n")
	}
	b.WriteString(clearBelow)
	d.lines = len(lines)
	_, err := io.WriteString(d.w, b.String())
	return err
}

// home puts the cursor to the start of the block.
func (d *drawing) home(b *strings.Builder) {
	b.WriteByte('\r')
	for range d.lines {
		b.WriteString("\x1b[A")
	}
}

// end gives the cursor back below the block.
func (d *drawing) end() { _, _ = io.WriteString(d.w, showCursor) }

// printJSON writes a document; a list without elements is [].
func (c *call) printJSON(v any) error {
	e := json.NewEncoder(c.out)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// printList writes a list as an array.
func printList[T any](c *call, list []T) error {
	if list == nil {
		list = []T{}
	}
	return c.printJSON(list)
}

// table prints a table, or a sentence where it would be empty.
func (c *call) table(t *table.Table) error { return t.Write(c.out, c.scr.Width, c.scr.Style) }
