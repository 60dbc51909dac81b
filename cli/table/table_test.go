package table_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/cli/format"
	"github.com/tunemesh/tunemesh/cli/table"
)

func render(t *table.Table, width int) []string {
	var b strings.Builder
	_ = t.Write(&b, width, format.Style{})
	return strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
}

func TestColumnsAlign(t *testing.T) {
	tab := table.Table{Columns: []table.Column{{Title: "NAME"}, {Title: "SIZE", Right: true}, {Title: "NOTE"}}}
	tab.Row("日本.csv", "4.2 MB", "x")
	tab.Row("a", "9 B", "")
	want := []string{"NAME        SIZE  NOTE", "日本.csv  4.2 MB  x", "a            9 B  -"}
	for i, got := range render(&tab, 100) {
		if got != want[i] {
			t.Errorf("got  %q\nwant %q", got, want[i])
		}
	}
}

func TestColumnsThatKeepGiveWayLast(t *testing.T) {
	tab := table.Table{Columns: []table.Column{{Title: "ID"}, {Title: "NAME", Shrink: 4}, {Title: "PLACE", Shrink: 5, Keep: true}}}
	tab.Row("12345678", "a long name", "a long place")
	for width, want := range map[int]string{40: "12345678  a long name  a long place", 30: "12345678  a lon…  a long place", 22: "12345678  a l…  a lon…"} {
		if got := render(&tab, width)[1]; got != want {
			t.Errorf("at %d: got %q, want %q", width, got, want)
		}
	}
}

func TestATableFitsAsFarAsItCanShrink(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		tab := table.Table{Columns: []table.Column{{Title: "A"}, {Title: "B", Shrink: 3}, {Title: "C", Shrink: 3, Middle: true}, {Title: "D", Right: true, Shrink: 3, Keep: true}}}
		for range rapid.IntRange(0, 5).Draw(t, "rows") {
			tab.Row("12345", rapid.String().Draw(t, "b"), rapid.String().Draw(t, "c"), rapid.String().Draw(t, "d"))
		}
		width := rapid.IntRange(5+3+3+3+6, 120).Draw(t, "width")
		for _, line := range render(&tab, width) {
			if got := format.Width(line); got > width {
				t.Fatalf("%d cells, at most %d: %q", got, width, line)
			}
		}
	})
}
