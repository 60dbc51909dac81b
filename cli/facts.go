package cli

import (
	"fmt"

	"github.com/tunemesh/tunemesh/cli/format"
)

// facts are the lines "Name   value" of the show verbs.
type facts struct {
	c    *call
	rows [][2]string
}

// add notes a fact; an empty one is left out.
func (f *facts) add(name, value string) {
	if value != "" {
		f.rows = append(f.rows, [2]string{name, value})
	}
}

func (f *facts) print() {
	width := 0
	for _, r := range f.rows {
		width = max(width, format.Width(r[0]))
	}
	for _, r := range f.rows {
		value := format.Clean(r[1])
		if r[0] == "State" || r[0] == "Status" {
			value = f.c.scr.Style.State(value)
		}
		fmt.Fprintln(f.c.out, format.Indent(f.c.scr.Style.Faint(format.Fit(r[0], width))+"  ", value, f.c.scr.Width))
	}
}
