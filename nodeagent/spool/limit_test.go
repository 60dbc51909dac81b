package spool_test

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tunemesh/tunemesh/nodeagent/spool"
)

// Wherever the beginning is dropped and wherever reading starts, every line is
// either read under its own number or lies in the gap, and nothing is both.
func TestDroppedLinesAreOneGapAndTheRestKeepsItsNumbers(t *testing.T) {
	dir := t.TempDir()
	n := 0
	rapid.Check(t, func(t *rapid.T) {
		n++
		path := filepath.Join(dir, fmt.Sprint(n))
		total := rapid.IntRange(1, 60).Draw(t, "lines")
		var b strings.Builder
		for i := range total {
			fmt.Fprintf(&b, "%d%s\n", i+1, strings.Repeat(".", rapid.IntRange(0, 30).Draw(t, "length")))
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := spool.Open(path, spool.Position{}, spool.Position{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		for range rapid.IntRange(0, total).Draw(t, "read before") {
			if _, _, err := r.Next(true); err != nil {
				t.Fatal(err)
			}
		}
		keep := int64(rapid.IntRange(0, b.Len()).Draw(t, "keep"))
		base, err := r.Over(keep)
		if err != nil {
			t.Fatal(err)
		}
		if err := r.Drop(base); err != nil && runtime.GOOS == "linux" {
			t.Fatal(err)
		}
		if live, err := r.Live(); err != nil || live > keep {
			t.Fatalf("%d bytes are left, %v; want at most %d", live, err, keep)
		}
		// By the same reader, and by a new one that knows the base.
		fresh, err := spool.Open(path, spool.Position{}, base)
		if err != nil {
			t.Fatal(err)
		}
		defer fresh.Close()
		from := rapid.Uint64Range(1, uint64(total)).Draw(t, "from")
		for _, r := range []*spool.Reader{r, fresh} {
			if err := r.Seek(from); err != nil {
				t.Fatal(err)
			}
			want := from
			for {
				line, ok, err := r.Next(true)
				if err != nil {
					t.Fatal(err)
				}
				if !ok {
					break
				}
				if line.From > 0 {
					if line.From != want || want >= base.Seq || line.Seq != base.Seq-1 {
						t.Fatalf("a gap %d to %d where line %d is due; the base is %+v", line.From, line.Seq, want, base)
					}
					want = line.Seq + 1
					continue
				}
				if line.Seq != want || !strings.HasPrefix(strings.TrimRight(string(line.Text), ".")+"|", fmt.Sprint(want)+"|") {
					t.Fatalf("line %d is %q, want number %d", line.Seq, line.Text, want)
				}
				want++
			}
			if want != uint64(total)+1 {
				t.Fatalf("reading ends before line %d of %d", want, total)
			}
		}
	})
}

func TestAWatchTellsOfEachWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w, err := spool.NewWatch(path)
	if err != nil {
		t.Skip(err)
	}
	defer w.Close()
	for i := range 20 {
		if _, err := fmt.Fprintln(f, i); err != nil {
			t.Fatal(err)
		}
		select {
		case <-w.Grew():
		case <-time.After(5 * time.Second):
			t.Fatalf("nothing was told of write %d", i+1)
		}
	}
}
